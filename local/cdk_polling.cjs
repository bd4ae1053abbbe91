// Loaded into the CDK CLI by `deploying.py`. The CLI looks at a stack every 5 seconds, which suits AWS; the emulator is
// done in one. Nothing else changes, and a CLI that waits in another way is merely slower again.
const SUITS_AWS_MS = 5000;
const SUITS_HOME_MS = 100;

const wait = globalThis.setTimeout;
globalThis.setTimeout = (action, delay, ...rest) => wait(action, delay === SUITS_AWS_MS ? SUITS_HOME_MS : delay, ...rest);
