/**
 * The members of a ring, as this member knows them: alive, suspected, dead, or left.
 *
 * Holds: SWIM's rules. Invariants: a claim counts only with an incarnation that is not older than
 * the known one, and only the member itself raises its incarnation; this member refutes the claims
 * against it; a claim with the highest incarnation cannot be refuted, so it changes nothing: this member
 * pings the one that it is about, and the answer decides; a dead member is kept for `reconnectMs`, so that
 * old claims do not make it alive again, and claims of a ring that was cut in two are refuted; there are at
 * most `maxMembers`, and a dead one makes room for a new one. Cost: constant for each claim, one timer for
 * each suspected member.
 */
import type { Scheduler } from '../../../util/time/scheduler.ts';
import { type Endpoint, textOf } from '../wire/endpoint.ts';
import {
  type Accusation,
  ALIVE,
  type Alive,
  DEAD,
  SUSPECT,
  type Versions,
} from '../wire/messages.ts';
import {
  MEMBER_ALIVE,
  MEMBER_DEAD,
  MEMBER_LEFT,
  MEMBER_SUSPECT,
  type MemberFact,
} from '../wire/push-pull.ts';
import { Suspicion } from './suspicion.ts';

export type MemberState = 'alive' | 'suspect' | 'dead' | 'left';

export interface Member {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly meta: Uint8Array;
  readonly versions: Versions;
  readonly incarnation: number;
  readonly state: MemberState;
  /** Monotonic milliseconds. */
  readonly changedAt: number;
}

type Held = { -readonly [Key in keyof Member]: Member[Key] } & {
  suspicion: Suspicion | null;
  /** When a claim that cannot be refuted last made this member ping it, in monotonic milliseconds. */
  askedAt: number;
};

export interface MemberTableOptions {
  readonly scheduler: Scheduler;
  readonly maxMembers: number;
  readonly deadMs: number;
  readonly reconnectMs: number;
  readonly probeIntervalMs: number;
  readonly suspicionMult: number;
  readonly suspicionMaxMult: number;
  /** Why a member at this address cannot be one of this ring; null where it can. */
  readonly whyNot: (endpoint: Endpoint) => string | null;
  /** Whether the member answers a ping of this one. */
  readonly isThere: (member: Member) => Promise<boolean>;
  /** To pass on: news of a member. */
  readonly onNews: (about: string, message: Alive | Accusation) => void;
  readonly onState: (member: Member, before: MemberState | null) => void;
  /** Others suspected this member, or took it for dead. */
  readonly onRefute: () => void;
  /** A claim that cannot be taken: about which member, and the reason. */
  readonly onRefused: (where: string, reason: string) => void;
}

const MAX_INCARNATION = 0xffff_ffff;
const UNSUSPECTED = { suspicion: null, askedAt: Number.NEGATIVE_INFINITY };
const STATE_NUMBERS = {
  alive: MEMBER_ALIVE,
  suspect: MEMBER_SUSPECT,
  dead: MEMBER_DEAD,
  left: MEMBER_LEFT,
} as const;

export class MemberTable {
  readonly #options: MemberTableOptions;
  readonly #members = new Map<string, Held>();
  readonly #self: Held;
  #isLeaving = false;

  constructor(self: Omit<Alive, 'type'>, options: MemberTableOptions) {
    this.#options = options;
    const { node: name, ...rest } = self;
    const changedAt = options.scheduler.monotonic();
    this.#self = { name, ...rest, state: 'alive', changedAt, ...UNSUSPECTED };
    this.#members.set(name, this.#self);
  }

  get self(): Member {
    return this.#self;
  }

  /** How many members are known, this one and the dead included. */
  get size(): number {
    return this.#members.size;
  }

  get(name: string): Member | undefined {
    return this.#members.get(name);
  }

  /** The others that are alive or suspected. */
  others(): Member[] {
    return [...this.#members.values()].filter(
      (member) => member !== this.#self && isPresent(member.state),
    );
  }

  /** The others that get news: those that are present, and those that died just now. */
  listeners(): Member[] {
    const now = this.#options.scheduler.monotonic();
    return [...this.#members.values()].filter(
      ({ name, state, changedAt }) =>
        name !== this.#self.name &&
        (isPresent(state) || (state === 'dead' && now - changedAt <= this.#options.deadMs)),
    );
  }

  at(endpoint: Endpoint): Member | undefined {
    const { host, port } = endpoint;
    for (const member of this.#members.values()) {
      const { endpoint: known, state } = member;
      if (known.port === port && known.host === host && isPresent(state)) return member;
    }
    return undefined;
  }

  /** Everything that this member knows, for a push and pull. */
  facts(): MemberFact[] {
    return [...this.#members.values()].map((member) => ({
      ...member,
      state: STATE_NUMBERS[member.state],
    }));
  }

  merge(facts: readonly MemberFact[]): void {
    for (const { name: node, endpoint, meta, versions, incarnation, state } of facts) {
      const from = this.#self.name;
      if (state === MEMBER_ALIVE) {
        this.onAlive({ type: ALIVE, node, endpoint, meta, versions, incarnation });
      } else if (state === MEMBER_LEFT) {
        this.onDead({ type: DEAD, node, incarnation, from: node });
        // One that is dead for another member is suspected here first.
      } else this.onSuspect({ type: SUSPECT, node, incarnation, from });
    }
  }

  onAlive(claim: Alive): void {
    const member = this.#members.get(claim.node);
    if (member === this.#self) {
      this.#onOwnAlive(claim);
      return;
    }
    const refused = this.#whyRefused(claim, member);
    if (refused !== null) {
      const where = `the member ${JSON.stringify(claim.node)} at ${textOf(claim.endpoint)}`;
      this.#options.onRefused(where, `it ${refused}`);
      return;
    }
    if (member === undefined) {
      this.#admit(claim);
      return;
    }
    const isMoved = textOf(member.endpoint) !== textOf(claim.endpoint);
    if (claim.incarnation <= member.incarnation && !isMoved) {
      if (claim.incarnation === MAX_INCARNATION && member.state !== 'alive') void this.#ask(member);
      return;
    }
    this.#free(member);
    const { meta, versions, incarnation, endpoint } = claim;
    Object.assign(member, { meta, versions, incarnation, endpoint });
    this.#options.onNews(claim.node, claim);
    if (member.state !== 'alive') this.#become(member, 'alive');
  }

  /** Another member claims that this one does not answer. */
  onSuspect(claim: Accusation): void {
    const member = this.#accused(claim);
    if (member === null) return;
    if (claim.incarnation < MAX_INCARNATION) this.#suspect(member, claim);
    else if (isPresent(member.state)) void this.#ask(member);
  }

  /** Another member claims that this one died, or this one announces that it leaves. */
  onDead(claim: Accusation): void {
    const member = this.#accused(claim);
    if (member === null) return;
    if (claim.incarnation < MAX_INCARNATION) this.#end(member, claim);
    else if (isPresent(member.state)) void this.#ask(member);
  }

  /** A member did not answer this one. */
  onSilent(name: string): void {
    const member = this.#members.get(name);
    if (member === undefined || member === this.#self) return;
    const { incarnation } = member;
    this.#suspect(member, { type: SUSPECT, node: name, incarnation, from: this.#self.name });
  }

  /** The other member that a claim is about; null where the claim is old. This member refutes its own. */
  #accused({ node, incarnation }: Accusation): Held | null {
    const member = this.#members.get(node);
    if (member === undefined || incarnation < member.incarnation) return null;
    if (member !== this.#self) return member;
    if (!this.#isLeaving) this.#refute(incarnation);
    return null;
  }

  /** Pings a member, because of a claim that it cannot refute: at most once in a probe interval. */
  async #ask(member: Held): Promise<void> {
    const { scheduler, probeIntervalMs, isThere } = this.#options;
    const { name, endpoint } = member;
    const now = scheduler.monotonic();
    if (now - member.askedAt < probeIntervalMs) return;
    member.askedAt = now;
    const answers = await isThere(member);
    // Meanwhile it may have been forgotten, or have come back at another address.
    const isSame = this.#members.get(name) === member && member.endpoint === endpoint;
    if (this.#isLeaving || !isSame) return;
    if (!answers) {
      if (member.state === 'alive') this.onSilent(name);
    } else if (member.state !== 'alive') {
      this.#free(member);
      this.#become(member, 'alive');
    }
  }

  #suspect(member: Held, claim: Accusation): void {
    if (member.suspicion !== null) {
      if (member.suspicion.confirm(claim.from)) this.#options.onNews(claim.node, claim);
      return;
    }
    if (member.state !== 'alive') return;
    member.incarnation = claim.incarnation;
    member.suspicion = this.#suspicionOf(member, claim.from);
    this.#options.onNews(claim.node, claim);
    this.#become(member, 'suspect');
  }

  #end(member: Held, claim: Accusation): void {
    this.#free(member);
    if (!isPresent(member.state)) return;
    member.incarnation = claim.incarnation;
    this.#options.onNews(claim.node, claim);
    this.#become(member, claim.node === claim.from ? 'left' : 'dead');
  }

  /** The message by which this member leaves; no claim of others makes it alive again. */
  leave(): Accusation {
    this.#isLeaving = true;
    const { name, incarnation } = this.#self;
    if (this.#self.state !== 'left') this.#become(this.#self, 'left');
    return { type: DEAD, incarnation, node: name, from: name };
  }

  /** The message by which this member announces itself. */
  hello(): Alive {
    const { name: node, endpoint, meta, versions, incarnation } = this.#self;
    return { type: ALIVE, node, endpoint, meta, versions, incarnation };
  }

  /** The members that died, to be tried again. */
  lost(): Member[] {
    return [...this.#members.values()].filter(({ state }) => state === 'dead');
  }

  /** Forgets the members that have been gone for long enough. */
  reap(): void {
    const now = this.#options.scheduler.monotonic();
    const { deadMs, reconnectMs } = this.#options;
    for (const [name, { state, changedAt }] of this.#members) {
      if (isPresent(state) || name === this.#self.name) continue;
      const keptMs = state === 'dead' ? Math.max(deadMs, reconnectMs) : deadMs;
      if (now - changedAt > keptMs) this.#members.delete(name);
    }
  }

  close(): void {
    for (const member of this.#members.values()) this.#free(member);
  }

  #whyRefused(claim: Alive, member: Held | undefined): string | null {
    const [least = 0, most = 0, current = 0] = claim.versions;
    const [ownLeast = 1, ownMost = 1, own = 1] = this.#self.versions;
    const isPlain = most === 0 && current === 0;
    const isRead = own >= least && own <= most && current >= ownLeast && current <= ownMost;
    if (!isPlain && !isRead) {
      return `speaks version ${current} of the protocol and reads ${least} to ${most}; this one speaks ${own} and reads ${ownLeast} to ${ownMost}`;
    }
    const whyNot = this.#options.whyNot(claim.endpoint);
    if (whyNot !== null) return whyNot;
    if (member === undefined) {
      if (this.#members.size < this.#options.maxMembers || this.#dropGone()) return null;
      return `is more than the ${this.#options.maxMembers} members that are allowed (maxMembers)`;
    }
    const isMoved = textOf(member.endpoint) !== textOf(claim.endpoint);
    if (!isMoved || !isPresent(member.state)) return null;
    return `has the name of a member at ${textOf(member.endpoint)}`;
  }

  /** Forgets the member that has been gone for longest; false where all are there. */
  #dropGone(): boolean {
    let oldest: Held | null = null;
    for (const member of this.#members.values()) {
      if (isPresent(member.state) || member === this.#self) continue;
      if (oldest === null || member.changedAt < oldest.changedAt) oldest = member;
    }
    return oldest !== null && this.#members.delete(oldest.name);
  }

  #admit(claim: Alive): void {
    const { node: name, endpoint, meta, versions, incarnation } = claim;
    const changedAt = this.#options.scheduler.monotonic();
    const member: Held = {
      name,
      endpoint,
      meta,
      versions,
      incarnation,
      state: 'alive',
      changedAt,
      ...UNSUSPECTED,
    };
    this.#members.set(name, member);
    this.#options.onNews(name, claim);
    this.#options.onState(member, null);
  }

  #onOwnAlive(claim: Alive): void {
    const own = this.#self;
    if (this.#isLeaving || claim.incarnation < own.incarnation) return;
    const isSame =
      claim.incarnation === own.incarnation &&
      textOf(claim.endpoint) === textOf(own.endpoint) &&
      Buffer.compare(claim.meta, own.meta) === 0 &&
      Buffer.compare(Uint8Array.from(claim.versions), Uint8Array.from(own.versions)) === 0;
    // Another process has this name, or an earlier life of this one had it.
    if (isSame) return;
    if (textOf(claim.endpoint) !== textOf(own.endpoint)) {
      const where = `the member ${JSON.stringify(own.name)} at ${textOf(claim.endpoint)}`;
      const reason =
        'it has the name of this member; give each process a name of its own (name), unless that process has ended';
      this.#options.onRefused(where, reason);
    }
    this.#refute(claim.incarnation);
  }

  #refute(incarnation: number): void {
    // Beyond the largest number there is none that wins.
    this.#self.incarnation = Math.min(
      MAX_INCARNATION,
      Math.max(this.#self.incarnation, incarnation) + 1,
    );
    this.#options.onNews(this.#self.name, this.hello());
    this.#options.onRefute();
  }

  #suspicionOf(member: Held, from: string): Suspicion {
    const { scheduler, suspicionMult, suspicionMaxMult, probeIntervalMs } = this.#options;
    const present = this.others().length + 1;
    const wanted = Math.max(0, suspicionMult - 2);
    const scale = Math.max(1, Math.log10(Math.max(1, present)));
    const shortestMs = suspicionMult * scale * probeIntervalMs;
    return new Suspicion({
      scheduler,
      from,
      // This member and the suspected one do not confirm.
      wanted: present - 2 < wanted ? 0 : wanted,
      shortestMs,
      longestMs: suspicionMaxMult * shortestMs,
      graceMs: probeIntervalMs,
      onEnd: () => {
        const { name: node, incarnation } = member;
        this.#end(member, { type: DEAD, node, incarnation, from: this.#self.name });
      },
    });
  }

  #free(member: Held): void {
    member.suspicion?.end();
    member.suspicion = null;
  }

  #become(member: Held, state: MemberState): void {
    const before = member.state;
    member.state = state;
    member.changedAt = this.#options.scheduler.monotonic();
    this.#options.onState(member, before);
  }
}

function isPresent(state: MemberState): boolean {
  return state === 'alive' || state === 'suspect';
}
