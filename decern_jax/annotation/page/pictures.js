// The images of a query; the next ones are fetched ahead.

import { imagePath, sleep, whyNot } from "./requests.js";

const NUM_AHEAD = 4;
const NUM_KEPT = 24;
const MAX_TRIES = 5;
const PAUSE_MS = 1000;

const yes = () => true;
const no = () => false;

export class Pictures {
  #version;
  #onServer;
  #kept = new Map(); // index -> {image, ready}, in order of last use

  // `onServer` is called with true or false: whether the server answers.
  constructor(version, onServer) {
    this.#version = version;
    this.#onServer = onServer;
  }

  // Returns an image, and a promise of the reason why it cannot be shown, or "".
  get(index) {
    const found = this.#kept.get(index) ?? this.#fetch(index);
    this.#kept.delete(index);
    this.#kept.set(index, found);
    for (const other of this.#kept.keys()) {
      if (this.#kept.size <= NUM_KEPT) break;
      this.#kept.delete(other);
    }
    return found;
  }

  // Fetches the first few images one by one, as long as `areWanted()`.
  async fetchAhead(indices, areWanted) {
    for (const index of indices.slice(0, NUM_AHEAD)) {
      if (!areWanted()) return;
      await this.get(index).ready;
    }
  }

  #fetch(index) {
    const image = new Image();
    const path = imagePath(this.#version, index);
    const ready = this.#load(image, path).then((trouble) => {
      // Forget the failure: the image may exist at the next try.
      if (trouble) this.#kept.delete(index);
      return trouble;
    });
    return { image, ready };
  }

  async #load(image, path) {
    for (let numTries = 1; ; numTries++) {
      image.src = path;
      const isThere = await image.decode().then(yes, no);
      const why = isThere ? "" : await whyNot(path);
      this.#onServer(why !== null);
      if (isThere || why) return why;
      if (why === null) await sleep(PAUSE_MS);
      else if (numTries >= MAX_TRIES) return "The browser cannot show it.";
    }
  }
}
