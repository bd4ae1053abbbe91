// Signs people in, and takes what the links in letters carry behind the `#`. Tokens stay in this page's memory.

const VIEWS = ["sign-in", "register", "confirm-email", "forgot-password", "reset-password", "signed-in"];
const LETTERS = ["confirm-email", "reset-password", "invitation"];
const $ = (id) => document.getElementById(id);

const letter = { purpose: "", token: "" };
let signedIn = null;

class Refused extends Error {
  constructor(code, message, retryAfter) {
    super(retryAfter ? `${message} (${retryAfter} s)` : message);
    this.code = code;
  }
}

async function api(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  if (signedIn) headers.Authorization = `Bearer ${signedIn.access_token}`;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), credentials: "omit" });
  } catch {
    throw new Refused("unreachable", "The API can't be reached. Try again.");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = found.error ?? { code: "unknown", message: `The API answered ${answer.status}.` };
    throw new Refused(error.code, error.message, answer.headers.get("Retry-After"));
  }
  return found;
}

function tell(id, text) {
  $(id).textContent = text;
  $(id).hidden = !text;
}

function show(view, notice = "") {
  for (const each of VIEWS) $(each).hidden = each !== view;
  tell("notice", notice);
  tell("problem", "");
  const title = $(`${view}-title`);
  document.title = `${title.textContent} – Runyard`;
  title.focus();
}

// The link's secret leaves the address bar and the history at once.
function readAddress() {
  const [purpose, token] = location.hash.slice(1).split("=", 2);
  if (LETTERS.includes(purpose) && token) {
    letter.purpose = purpose;
    letter.token = token;
    history.replaceState(null, "", location.pathname);
    if (purpose === "invitation") {
      show("sign-in", "You are invited to an org. Sign in to join it. Without an account, register first, then open the link again.");
    } else {
      show(purpose);
    }
    return;
  }
  const open = ["sign-in", "register", "forgot-password"];
  show(signedIn ? "signed-in" : open.includes(purpose) ? purpose : "sign-in");
}

async function enter(tokens) {
  signedIn = tokens;
  let notice = "";
  if (letter.purpose === "invitation") {
    try {
      const org = (await api("POST", "/v1/invitations/accept", { token: letter.token })).org.id;
      signedIn = await api("POST", "/v1/auth/refresh", { refresh_token: signedIn.refresh_token, org_id: org });
      notice = "You have joined the org.";
    } catch (error) {
      notice = `The invitation was not accepted: ${error.message}`;
    }
    letter.purpose = "";
  }
  const me = await api("GET", "/v1/me");
  $("my-name").textContent = me.name;
  $("my-email").textContent = me.email;
  $("my-org").textContent = me.org_id;
  $("my-role").textContent = me.role;
  $("my-token").value = signedIn.access_token;
  show("signed-in", notice);
}

const actions = {
  async "sign-in"(form) {
    const body = { email: form.elements.email.value, password: form.elements.password.value };
    const code = form.elements.code.value.trim();
    if (code) body[/^\d{6}$/.test(code) ? "totp" : "recovery_code"] = code;
    try {
      await enter(await api("POST", "/v1/auth/login", body));
    } catch (error) {
      if (error.code !== "totp_required") throw error;
      form.elements.code.closest("label").hidden = false;
      form.elements.code.required = true;
      tell("notice", "Enter the code of your authenticator app, or a recovery code.");
      form.elements.code.focus();
      return false;
    }
    form.elements.code.closest("label").hidden = true;
    form.elements.code.required = false;
    return true;
  },
  async register(form) {
    const body = { name: form.elements.name.value, email: form.elements.email.value, password: form.elements.password.value };
    await api("POST", "/v1/auth/register", body);
    show("sign-in", "A letter is on its way to you. Open the link in it.");
    return true;
  },
  async "confirm-email"(form) {
    const body = { token: letter.token, password: form.elements.password.value };
    await enter(await api("POST", "/v1/auth/confirm-email", body));
    return true;
  },
  async "forgot-password"(form) {
    await api("POST", "/v1/auth/forgot-password", { email: form.elements.email.value });
    show("sign-in", "If there is an account with this address, a letter is on its way.");
    return true;
  },
  async "reset-password"(form) {
    await api("POST", "/v1/auth/reset-password", { token: letter.token, password: form.elements.password.value });
    show("sign-in", "The password is set. Sign in with it.");
    return true;
  },
};

for (const [view, action] of Object.entries(actions)) {
  const form = $(view).querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    tell("problem", "");
    try {
      if (await action(form)) form.reset();
    } catch (error) {
      tell("problem", error.message);
    } finally {
      button.disabled = false;
    }
  });
}

$("sign-out").addEventListener("click", async () => {
  try {
    await api("POST", "/v1/auth/logout", { refresh_token: signedIn.refresh_token });
    signedIn = null;
    $("my-token").value = "";
    show("sign-in", "You are signed out.");
  } catch (error) {
    tell("problem", error.message);
  }
});

addEventListener("hashchange", readAddress);
readAddress();
