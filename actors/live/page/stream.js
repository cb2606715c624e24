// The gateway's stream of changes. It is read only while the page can be seen: nobody looks,
// nothing is sent.

const RETRY_MS = 1000;
const KEY = "microserve.key";

export function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export async function get(path) {
  const response = await fetch(path, { headers: headers() });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error?.message ?? `status ${response.status}`);
  return body;
}

export class Stream {
  // `status` hears "live", "away", "paused", or "locked" where a key is wanted.
  constructor(onMessage, onStatus) {
    this.onMessage = onMessage;
    this.onStatus = onStatus;
    this.paused = false;
    document.addEventListener("visibilitychange", () => this.restart());
  }

  pause(paused) {
    this.paused = paused;
    this.restart();
  }

  restart() {
    this.abort?.abort();
    clearTimeout(this.timer);
    if (this.paused || document.hidden) this.onStatus("paused");
    else this.read();
  }

  async read() {
    const abort = (this.abort = new AbortController());
    try {
      const response = await fetch("/live/events", { headers: headers(), signal: abort.signal });
      if (response.status === 401) return this.onStatus("locked");
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.onStatus("live");
      await this.frames(response.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch (error) {
      if (abort.signal.aborted) return undefined;
    }
    this.onStatus("away");
    this.timer = setTimeout(() => this.restart(), RETRY_MS);
    return undefined;
  }

  async frames(reader) {
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) this.onMessage(JSON.parse(part.slice(part.indexOf("data: ") + 6)));
    }
  }
}
