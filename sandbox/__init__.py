"""The program inside a sandbox: runs commands and keeps files; imports nothing of the platform's."""
