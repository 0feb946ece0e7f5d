/**
 * What a member passes on, each message a bounded number of times, to different members.
 *
 * Invariants: a newer message about the same thing replaces the older one; what was sent least is taken
 * first; a message goes to no member twice before it has gone to all; there are at most `maxMessages`, and
 * beyond them the one that was sent most is dropped. Cost: one look at each message that is passed over.
 */

interface Message {
  readonly about: string;
  readonly bytes: Uint8Array;
  /** How often it is sent, from the number of the other members. */
  readonly limit: (others: number) => number;
  sent: number;
  readonly sentTo: Set<string>;
}

export class BroadcastQueue {
  readonly #maxMessages: number;
  /** By how often they were sent, then in the order in which they came. */
  readonly #levels: Map<string, Message>[] = [];
  readonly #byAbout = new Map<string, Message>();
  #dropped = 0;

  constructor(maxMessages: number) {
    this.#maxMessages = maxMessages;
  }

  get size(): number {
    return this.#byAbout.size;
  }

  /** How many messages were dropped before they had been sent often enough. */
  get dropped(): number {
    return this.#dropped;
  }

  put(about: string, bytes: Uint8Array, limit: (others: number) => number): void {
    const before = this.#byAbout.get(about);
    if (before !== undefined) this.#remove(before);
    else if (this.#byAbout.size >= this.#maxMessages) this.#dropOne();
    const message: Message = { about, bytes, limit, sent: 0, sentTo: new Set() };
    this.#byAbout.set(about, message);
    this.#level(0).set(about, message);
  }

  /** Messages for one member that fit into `room`, each with `overhead` more; at most `most` of them. */
  take(to: string, others: number, room: number, overhead: number, most: number): Uint8Array[] {
    const taken: Message[] = [];
    let left = room;
    for (const level of this.#levels) {
      for (const message of level.values()) {
        if (taken.length >= most || left <= overhead) break;
        if (message.bytes.length + overhead > left) continue;
        if (message.sentTo.has(to) && message.sentTo.size < others) continue;
        left -= message.bytes.length + overhead;
        taken.push(message);
      }
    }
    for (const message of taken) this.#sent(message, to, others);
    return taken.map(({ bytes }) => bytes);
  }

  #sent(message: Message, to: string, others: number): void {
    this.#remove(message);
    if (message.sentTo.size >= others) message.sentTo.clear();
    message.sentTo.add(to);
    message.sent++;
    if (message.sent >= message.limit(others)) return;
    this.#byAbout.set(message.about, message);
    this.#level(message.sent).set(message.about, message);
  }

  #remove(message: Message): void {
    this.#byAbout.delete(message.about);
    this.#levels[message.sent]?.delete(message.about);
  }

  #dropOne(): void {
    const level = this.#levels.findLast(({ size }) => size > 0);
    const [message] = level?.values() ?? [];
    if (message === undefined) return;
    this.#remove(message);
    this.#dropped++;
  }

  #level(sent: number): Map<string, Message> {
    for (let next = this.#levels.length; next <= sent; next++) this.#levels.push(new Map());
    return this.#levels[sent] as Map<string, Message>;
  }
}
