/**
 * A first-in first-out queue on a growing circular array: `push` and `shift` cost O(1), where
 * `Array.prototype.shift` moves everything.
 */
export class Ring<T> {
  // None until something is put in: most mailboxes of a large system are empty.
  #items: (T | undefined)[] = NO_ITEMS;
  #head = 0;
  #length = 0;

  /** How many items wait. */
  get length(): number {
    return this.#length;
  }

  /** Adds at the end. */
  push(item: T): void {
    if (this.#length === this.#items.length) this.#grow();
    this.#items[(this.#head + this.#length) & (this.#items.length - 1)] = item;
    this.#length++;
  }

  /** Takes the first, or `undefined` when empty. */
  shift(): T | undefined {
    if (this.#length === 0) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#items.length - 1);
    this.#length--;
    return item;
  }

  /** The item at `index` from the front, left in place. */
  at(index: number): T | undefined {
    if (index < 0 || index >= this.#length) return undefined;
    return this.#items[(this.#head + index) & (this.#items.length - 1)];
  }

  /** Takes the item at `index` out, keeping the order of the others. */
  removeAt(index: number): T | undefined {
    if (index < 0 || index >= this.#length) return undefined;
    const mask = this.#items.length - 1;
    const item = this.#items[(this.#head + index) & mask];
    for (let i = index; i > 0; i--) {
      this.#items[(this.#head + i) & mask] = this.#items[(this.#head + i - 1) & mask];
    }
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & mask;
    this.#length--;
    return item;
  }

  /** Drops everything. */
  clear(): void {
    this.#items = NO_ITEMS;
    this.#head = 0;
    this.#length = 0;
  }

  #grow(): void {
    const bigger: (T | undefined)[] = new Array(Math.max(16, this.#items.length * 2));
    for (let i = 0; i < this.#length; i++) bigger[i] = this.at(i);
    this.#items = bigger;
    this.#head = 0;
  }
}

const NO_ITEMS: never[] = [];
