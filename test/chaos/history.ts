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

  /** Attempts of one message never fall, and exceed the number of its hand-overs at most by `uncounted`. */
  #attempts({ name }: GroupFacts, uncounted: number): string[] {
    const found: string[] = [];
    const seen = new Map<string, number[]>();
    for (const { group, text, attempt } of this.handOvers) {
      if (group === name) seen.set(text, [...(seen.get(text) ?? []), attempt]);
    }
    for (const [text, attempts] of seen) {
      const isRight = attempts.every(
        (attempt, at) =>
          attempt >= 1 && attempt <= at + 1 + uncounted && attempt >= (attempts[at - 1] ?? 0),
      );
      if (!isRight) found.push(`${name}: attempts of ${text} were ${attempts}`);
    }
    return found;
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
