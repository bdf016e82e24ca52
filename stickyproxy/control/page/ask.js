// Asking the admin API. The token lives in this module while the page is open, and nowhere else.

let token = "";

/** Have this token sent from now on; "" for none. */
export const keepToken = (text) => { token = text.trim(); };
export const hasToken = () => token !== "";

/** What the API refuses (RFC 9457): its status, what it says, and the single mistakes of a configuration. */
export class Refused extends Error {
  constructor(status, detail, mistakes = []) {
    super(detail);
    this.status = status;
    this.mistakes = mistakes;
  }
}

/** The fields of every request. */
export const fields = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** The JSON that `method` of `path` answers. Throws `Refused`; status 0: the proxy cannot be reached. */
export async function ask(method, path, body) {
  const init = { method, headers: fields(), cache: "no-store" };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Refused(0, "The proxy cannot be reached.");
  }
  await check(answer);
  return answer.json();
}

/** Throws `Refused` unless the answer is good. */
export async function check(answer) {
  if (answer.ok) return;
  const about = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, about.detail ?? `${answer.status} ${answer.statusText}`, about.mistakes);
}
