/**
 * The strategies: random, round robin, least loaded of two, consistent hash.
 *
 * Invariants: round robin goes on from call to call (go-micro starts it again at each call, which
 * makes it random); the consistent hash moves about 1/n of the keys when one of n nodes leaves.
 * Cost: O(1), but for the consistent hash, which is one hash per node and call.
 */
import type { Candidate, Strategy, StrategyContext } from './selector.ts';

export const random: Strategy = {
  name: 'random',
  choose: (candidates, { fraction }) => at(candidates, fraction()),
};

/** The one with fewer calls in flight of two chosen at random. */
export const leastLoaded: Strategy = {
  name: 'least-loaded',
  choose(candidates, { fraction }) {
    const first = Math.floor(fraction() * candidates.length);
    if (candidates.length === 1) return candidates[first] as Candidate;
    // Another one than the first, each with the same chance.
    const step = 1 + Math.floor(fraction() * (candidates.length - 1));
    const second = (first + step) % candidates.length;
    const a = candidates[first] as Candidate;
    const b = candidates[second] as Candidate;
    return a.inFlight <= b.inFlight ? a : b;
  },
};

/** Rendezvous hashing: the node whose hash together with the key is the highest. Without a key: random. */
export const consistentHash: Strategy = {
  name: 'consistent-hash',
  choose(candidates, context) {
    const { key } = context;
    if (key === undefined) return random.choose(candidates, context);
    let best = candidates[0] as Candidate;
    let highest = -1;
    for (const candidate of candidates) {
      const hash = hash32(`${candidate.node.id}\n${key}`);
      if (hash > highest || (hash === highest && candidate.node.id < best.node.id)) {
        highest = hash;
        best = candidate;
      }
    }
    return best;
  },
};

/** Nodes one after the other, in the order of their ids. Holds one counter per service, 10 000 at most. */
export function roundRobin(): Strategy {
  const counters = new Map<string, number>();
  return {
    name: 'round-robin',
    choose(candidates, { service, fraction }: StrategyContext) {
      const sorted = [...candidates].sort((a, b) => (a.node.id < b.node.id ? -1 : 1));
      // Processes that start together must not all begin with the same node.
      const count = counters.get(service) ?? Math.floor(fraction() * 2 ** 20);
      if (counters.size >= MAX_COUNTERS) counters.clear();
      counters.set(service, count + 1);
      return sorted[count % sorted.length] as Candidate;
    },
  };
}

const MAX_COUNTERS = 10_000;

/** A strategy by its name, as `--selector` and MICRO_SELECTOR give it. */
export function strategyByName(name: string): Strategy | null {
  switch (name) {
    case 'random':
      return random;
    case 'round-robin':
    case 'roundrobin':
      return roundRobin();
    case 'least-loaded':
      return leastLoaded;
    case 'consistent-hash':
      return consistentHash;
    default:
      return null;
  }
}

export const STRATEGY_NAMES = ['random', 'round-robin', 'least-loaded', 'consistent-hash'] as const;

function at(candidates: readonly Candidate[], fraction: number): Candidate {
  return candidates[Math.floor(fraction * candidates.length)] as Candidate;
}

/** FNV-1a over UTF-16 units, mixed by murmur3's finalizer so that ids with a common prefix spread. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
