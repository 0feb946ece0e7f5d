/**
 * Which streams of others are served, where more are opened than `most`.
 *
 * Invariants: at most `most` are served; a new stream displaces the oldest that has sent no byte, else the
 * oldest of the address that has the most, if that has at least two more than the address of the new one.
 * So neither silent connections nor those of one address keep a member out. Cost: one look at each stream
 * where there are `most`.
 */
export interface StreamSlot {
  /** The address that it came from. */
  readonly host: string;
  /** No byte has arrived. */
  isSilent(): boolean;
  close(): void;
}

export class StreamSlots {
  readonly #most: number;
  /** In the order in which they were opened. */
  readonly #slots = new Set<StreamSlot>();

  constructor(most: number) {
    this.#most = most;
  }

  /** False where the stream cannot be served. */
  take(slot: StreamSlot): boolean {
    if (this.#slots.size >= this.#most) {
      const displaced = this.#silent() ?? this.#ofTheMost(slot.host);
      if (displaced === undefined) return false;
      this.free(displaced);
      displaced.close();
    }
    this.#slots.add(slot);
    return true;
  }

  free(slot: StreamSlot): void {
    this.#slots.delete(slot);
  }

  #silent(): StreamSlot | undefined {
    for (const slot of this.#slots) if (slot.isSilent()) return slot;
    return undefined;
  }

  #ofTheMost(newHost: string): StreamSlot | undefined {
    const counts = new Map<string, number>();
    for (const { host } of this.#slots) counts.set(host, (counts.get(host) ?? 0) + 1);
    const own = counts.get(newHost) ?? 0;
    const [host, count] = [...counts].reduce((most, each) => (each[1] > most[1] ? each : most));
    if (count < own + 2) return undefined;
    for (const slot of this.#slots) if (slot.host === host) return slot;
    return undefined;
  }
}
