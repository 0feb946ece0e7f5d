/**
 * What several registries said last about one question, for when one of them does not answer.
 *
 * Invariants: a registry that answers has the word on the nodes that it has. A node that it had and has no more
 * leaves the last answers of the others, too. A node that only a registry knew which does not answer stays until
 * that registry answers. Cost: the records of each registry's last answer.
 */
import { mergeRecords } from './record.ts';
import type { Registry, ServiceRecord } from './registry.ts';

export class LastAnswers {
  readonly #registries: readonly Registry[];
  readonly #last = new Map<Registry, readonly ServiceRecord[]>();

  constructor(registries: readonly Registry[]) {
    this.#registries = registries;
  }

  /** No registry has said that it has any record. */
  get isEmpty(): boolean {
    return [...this.#last.values()].every((records) => records.length === 0);
  }

  /** Of two answers on one node the first registry's counts. `now`: the registries that answered. */
  merge(now: ReadonlyMap<Registry, readonly ServiceRecord[]>): ServiceRecord[] {
    const present = new Set([...now.values()].flat().flatMap(keysOf));
    const had = [...now.keys()].flatMap((registry) => this.#last.get(registry) ?? []);
    const gone = new Set(had.flatMap(keysOf).filter((key) => !present.has(key)));
    const kept: ServiceRecord[] = [];
    for (const [registry, records] of this.#last) {
      if (now.has(registry)) continue;
      const left = without(records, gone);
      this.#last.set(registry, left);
      kept.push(...without(left, present));
    }
    for (const [registry, records] of now) this.#last.set(registry, records);
    const fresh = this.#registries.flatMap((registry) => [...(now.get(registry) ?? [])].reverse());
    // Of one node the record that comes last counts.
    return mergeRecords([...kept, ...fresh.reverse()]);
  }
}

function without(records: readonly ServiceRecord[], keys: ReadonlySet<string>): ServiceRecord[] {
  return records.flatMap((record) => {
    const nodes = record.nodes.filter(({ id }) => !keys.has(`${record.name}\n${id}`));
    return nodes.length > 0 || record.nodes.length === 0 ? [{ ...record, nodes }] : [];
  });
}

function keysOf({ name, nodes }: ServiceRecord): string[] {
  return nodes.map(({ id }) => `${name}\n${id}`);
}
