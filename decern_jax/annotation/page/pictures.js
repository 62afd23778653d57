// The images of a query: those that come next are fetched before their turn.

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
  #kept = new Map(); // position -> {image, ready}, those used last at the end

  // Calls `onServer` with whether the server answers.
  constructor(version, onServer) {
    this.#version = version;
    this.#onServer = onServer;
  }

  // Returns an image, and a promise of "" or of why it cannot be shown.
  get(position) {
    const found = this.#kept.get(position) ?? this.#fetch(position);
    this.#kept.delete(position);
    this.#kept.set(position, found);
    for (const other of this.#kept.keys()) {
      if (this.#kept.size <= NUM_KEPT) break;
      this.#kept.delete(other);
    }
    return found;
  }

  // Fetches the first of some images that are still to come, one by one, as
  // long as they are wanted.
  async fetchAhead(positions, areWanted) {
    for (const position of positions.slice(0, NUM_AHEAD)) {
      if (!areWanted()) return;
      await this.get(position).ready;
    }
  }

  #fetch(position) {
    const image = new Image();
    const path = imagePath(this.#version, position);
    const ready = this.#load(image, path).then((trouble) => {
      // It may be there when it is asked for again.
      if (trouble) this.#kept.delete(position);
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
