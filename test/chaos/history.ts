/**
 * What happened in a chaos run, and the one checker of the contract over it.
 *
 * Holds: publishes with what was acknowledged, hand-overs, settlements, bounds. The checker returns
 * every breach in words; an empty list is a run that kept the contract.
 */

export interface HandOver {
  readonly group: string;
  readonly topic: string;
  readonly text: string;
  readonly attempt: number;
  /** The process, as the broker sees it, that had it. */
  readonly consumer: string;
  readonly id: string;
}

export interface GroupFacts {
  readonly name: string;
  readonly ordered: boolean;
  readonly topics: readonly string[];
}

export class History {
  /** By topic, in the order of the calls. */
  readonly published = new Map<string, string[]>();
  readonly acknowledged = new Set<string>();
  readonly handOvers: HandOver[] = [];
  /** `group text` of handlers that have returned well, in order. */
  readonly handled: { readonly group: string; readonly topic: string; readonly text: string }[] =
    [];
  readonly dead = new Set<string>();
  /** `consumer topic id` of what a consumer could not settle, because it had no connection. */
  readonly unsettled = new Set<string>();
  readonly breaches: string[] = [];

  publish(topic: string, text: string): void {
    const texts = this.published.get(topic) ?? [];
    texts.push(text);
    this.published.set(topic, texts);
  }

  /** Acknowledged messages that a group has neither handled nor lost to its dead letter. */
  missing({ name, topics }: GroupFacts): string[] {
    const done = new Set(
      this.handled.filter(({ group }) => group === name).map(({ text }) => text),
    );
    return topics.flatMap((topic) =>
      (this.published.get(topic) ?? []).filter(
        (text) =>
          this.acknowledged.has(text) && !done.has(text) && !this.dead.has(`${name} ${text}`),
      ),
    );
  }

  /** `uncounted`: how many attempts of a message may have been counted without a hand-over. */
  check(groups: readonly GroupFacts[], uncounted = 0): string[] {
    const found = [...this.breaches];
    for (const group of groups) {
      const missing = this.missing(group);
      if (missing.length > 0) found.push(`${group.name} never handled ${missing.slice(0, 5)}`);
      found.push(...this.#attempts(group, uncounted), ...(group.ordered ? this.#order(group) : []));
    }
    return found;
  }

  /**
   * Attempts of one message exceed the number of its hand-overs at most by `uncounted`, and never fall:
   * but where a consumer could not settle it, because its connection was lost, its last hand-overs may
   * be unknown to the next consumer.
   */
  #attempts({ name }: GroupFacts, uncounted: number): string[] {
    const found: string[] = [];
    const seen = new Map<string, HandOver[]>();
    for (const each of this.handOvers) {
      if (each.group === name) seen.set(each.text, [...(seen.get(each.text) ?? []), each]);
    }
    for (const [text, handOvers] of seen) {
      const isRight = handOvers.every(({ attempt, consumer }, at) => {
        const before = handOvers[at - 1];
        const isKnown =
          before === undefined || before.consumer === consumer || !this.#isUnsettled(before);
        return (
          attempt >= 1 &&
          attempt <= at + 1 + uncounted &&
          (!isKnown || attempt >= (before?.attempt ?? 0))
        );
      });
      if (isRight) continue;
      const attempts = handOvers.map(({ attempt, consumer }) => `${attempt} (${consumer})`);
      found.push(`${name}: attempts of ${text} were ${attempts}`);
    }
    return found;
  }

  #isUnsettled({ consumer, topic, id }: HandOver): boolean {
    return this.unsettled.has(`${consumer} ${topic} ${id}`);
  }

  /** Of each topic, messages are handled for the first time in the order of the publish calls. */
  #order({ name, topics }: GroupFacts): string[] {
    const found: string[] = [];
    for (const topic of topics) {
      const place = new Map((this.published.get(topic) ?? []).map((text, at) => [text, at]));
      const firsts = new Set(
        this.handled
          .filter((each) => each.group === name && each.topic === topic)
          .map(({ text }) => text),
      );
      let last = -1;
      for (const text of firsts) {
        const at = place.get(text);
        if (at === undefined) continue;
        if (at < last) found.push(`${name}: ${text} of ${topic} was handled behind a later one`);
        last = Math.max(last, at);
      }
    }
    return found;
  }
}
