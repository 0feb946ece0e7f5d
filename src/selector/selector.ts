/**
 * The Selector: which node of a service takes the next call.
 *
 * Contract only. Invariants: a node that could not be reached is passed over for a while and comes
 * back by itself; when every node is passed over, all are tried again, because a wrong guess must not
 * stop a service that lives. Each call of the returned function is followed by one `mark`.
 */
import type { ServiceNode, ServiceRecord } from '../registry/registry.ts';

export interface SelectOptions {
  /** Applied in order, before the strategy; each gives the records with the nodes that remain. */
  readonly filters?: readonly Filter[];
  /** Default: the selector's own. */
  readonly strategy?: Strategy;
  /** What the consistent hash hashes: calls of one key go to one node while it is there. */
  readonly key?: string;
}

export type Filter = (services: readonly ServiceRecord[]) => readonly ServiceRecord[];

/** What a strategy may know of a node when it chooses. */
export interface Candidate {
  readonly node: ServiceNode;
  /** Calls of this process that the node has not answered yet. */
  readonly inFlight: number;
}

export interface StrategyContext {
  readonly service: string;
  readonly key: string | undefined;
  /** A number in [0, 1). */
  fraction(): number;
}

/** Chooses one of the candidates; there is at least one. */
export interface Strategy {
  readonly name: string;
  choose(candidates: readonly Candidate[], context: StrategyContext): Candidate;
}

/** How a call to a node ended. */
export interface Outcome {
  /**
   * `ok`: the node answered, be it with an error of the application. `unreachable`: it could not be
   * dialled, or was lost in mid-call. `timeout`: it did not answer in time. `none`: the call ended, or
   * was not made, for a reason that says nothing of the node.
   */
  readonly result: 'ok' | 'unreachable' | 'timeout' | 'none';
}

export interface Selector {
  readonly name: string;
  /**
   * The function that gives the node for the next attempt: another one than before while there is
   * one. Rejects with SERVICE_NOT_FOUND when no node is known, UNAVAILABLE when the filters leave
   * none, REGISTRY_UNAVAILABLE when the registry could not be asked.
   */
  select(service: string, options?: SelectOptions): Promise<() => ServiceNode>;
  /** As `select`, at once; null where the nodes must be read first. Optional: it saves calls a wait. */
  selectNow?(service: string, options?: SelectOptions): (() => ServiceNode) | null;
  /** Says how the call to the node ended: once for each node that `select`'s function gave. */
  mark(service: string, node: ServiceNode, outcome: Outcome): void;
  /** Forgets what was marked of a service. */
  reset(service: string): void;
  close(): Promise<void>;
}
