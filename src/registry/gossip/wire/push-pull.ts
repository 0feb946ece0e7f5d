/**
 * Push and pull: two members exchange everything that they know, by one stream.
 *
 * Form: the byte 6, a header, each member, then the state of the registry as go-micro writes it. A
 * message of a user goes by a stream where a datagram has no room for it. Invariants: what is read is
 * bounded by the source's limit and `MOST_MEMBERS`, and of a state with more than `maxMembers` the first are
 * taken; a member takes at most `MEMBER_BYTES`. Throws `Malformed`. Cost: linear.
 */
import { bytesOfHost, type Endpoint } from './endpoint.ts';
import { Fields, PUSH_PULL, USER, type Versions } from './messages.ts';
import { Malformed, type RawValue, writeMap } from './raw-msgpack.ts';
import type { StreamSource } from './stream-source.ts';

export const MEMBER_ALIVE = 0;
export const MEMBER_SUSPECT = 1;
export const MEMBER_DEAD = 2;
export const MEMBER_LEFT = 3;

/** The largest `maxMembers`: a state of more is no state of a ring. */
export const MOST_MEMBERS = 10_000;
/** A name of 255 bytes, meta of 512, an address of 16, the other values, and the names of all. */
export const MEMBER_BYTES = 850;
/** The type byte and the header of a state, and what a seal adds. */
export const STATE_HEAD_BYTES = 128;

/** What a member knows about another, or about itself. */
export interface MemberFact {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly meta: Uint8Array;
  readonly incarnation: number;
  readonly state: number;
  readonly versions: Versions;
}

export interface RingState {
  /** The sender has just come: go-micro takes the state of the registry only then. */
  readonly isJoin: boolean;
  readonly members: readonly MemberFact[];
  /** The state of the registry. */
  readonly user: Uint8Array;
}

export function encodeState({ isJoin, members, user }: RingState): Uint8Array {
  const header = { Join: isJoin, Nodes: members.length, UserStateLen: user.length };
  const facts = members.map(({ name, endpoint, meta, incarnation, state, versions }) =>
    writeMap({
      Addr: bytesOfHost(endpoint.host),
      Incarnation: incarnation,
      Meta: meta,
      Name: name,
      Port: endpoint.port,
      State: state,
      Vsn: Uint8Array.from(versions),
    }),
  );
  return Buffer.concat([Uint8Array.of(PUSH_PULL), writeMap(header), ...facts, user]);
}

/** What follows the type byte 6. A member that cannot be read is refused with the reason, and hides no other. */
export async function readState(
  source: StreamSource,
  maxMembers: number,
  onRefused: (reason: string) => void = () => {},
): Promise<RingState> {
  const header = new Fields(await source.value());
  const count = header.u32('Nodes');
  if (count > MOST_MEMBERS) throw new Malformed(`it has more than ${MOST_MEMBERS} members`);
  if (count > maxMembers) {
    onRefused(
      `it has ${count} members, and ${maxMembers} are read: all members of a ring need the same maxMembers`,
    );
  }
  const members: MemberFact[] = [];
  for (let index = 0; index < count; index++) {
    const value = await source.value();
    if (index >= maxMembers) continue;
    try {
      const fact = factFrom(value);
      if (fact !== null) members.push(fact);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      onRefused(error.message);
    }
  }
  const user = await source.take(header.u32('UserStateLen'));
  return { isJoin: header.isTrue('Join'), members, user };
}

/** Null for a member without an address, which cannot be reached. */
function factFrom(value: RawValue): MemberFact | null {
  const fields = new Fields(value);
  const endpoint = fields.endpoint('Addr', 'Port');
  if (endpoint === null) return null;
  return {
    name: fields.name('Name'),
    endpoint,
    meta: fields.meta('Meta'),
    incarnation: fields.u32('Incarnation'),
    state: fields.count('State', MEMBER_LEFT),
    versions: fields.versions('Vsn'),
  };
}

export function encodeUserStream(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(USER), writeMap({ UserMsgLen: bytes.length }), bytes]);
}

/** What follows the type byte 8 of a stream. */
export async function readUserStream(source: StreamSource): Promise<Uint8Array> {
  const header = new Fields(await source.value());
  return source.take(header.u32('UserMsgLen'));
}
