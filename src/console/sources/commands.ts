/**
 * Commands of a server that speaks RESP, run as one user, and how their replies are read.
 *
 * Holds: the interface that our RESP client, and the connection inside the server, fulfil.
 * Invariant: readers here accept the forms of RESP2 and RESP3, and throw on nothing but a wrong type.
 */

import type { CommandArgument } from '../../client/command-encoder.ts';
import { pairsOf, type Reply, ReplyError } from '../../client/reply.ts';

export interface Commands {
  /** Sends one command. An error reply rejects as ReplyError. */
  call(...args: CommandArgument[]): Promise<Reply>;
  /** Sends MULTI, the commands and EXEC. Rejects when nothing of it was done. */
  transaction(commands: readonly (readonly CommandArgument[])[]): Promise<Reply[]>;
}

/** A map's values by their names, of RESP2 or RESP3. */
export function factsOf(reply: Reply): Record<string, Reply> {
  return Object.fromEntries(pairsOf(reply).map(([name, value]) => [String(name), value]));
}

export function listOf(reply: Reply | undefined): Reply[] {
  return Array.isArray(reply) ? reply : [];
}

export function numberOf(reply: Reply | undefined): number | null {
  if (reply === null || reply === undefined) return null;
  const value = Number(reply);
  return Number.isFinite(value) ? value : null;
}

export function textOf(reply: Reply | undefined): string {
  return reply === null || reply === undefined ? '' : String(reply);
}

export function bytesOf(reply: Reply | undefined): Buffer {
  return Buffer.isBuffer(reply) ? reply : Buffer.from(textOf(reply));
}

/** The reply, or null where the server says that there is no such key or group. */
export async function orNull(reply: Promise<Reply>): Promise<Reply | null> {
  try {
    return await reply;
  } catch (error) {
    if (error instanceof ReplyError && /no such key|NOGROUP/i.test(error.message)) return null;
    throw error;
  }
}

export interface RawEntry {
  readonly id: string;
  /** The id that its publisher and its consumers have, where that is another one. */
  readonly messageId?: string;
  /** When it was stored, Unix ms; null = it has no time. Absent: the id is of that time. */
  readonly at?: number | null;
  /** Names and values, alternating. */
  readonly fields: Buffer[];
  /** Where a value is cut: bytes of all fields, and of the body, as they are stored. */
  readonly whole?: { readonly bytes: number; readonly body: number };
}

/** The entries of XRANGE and XREVRANGE. */
export function entriesOf(reply: Reply): RawEntry[] {
  return listOf(reply).map((entry) => {
    const [id, fields] = listOf(entry);
    return { id: textOf(id), fields: listOf(fields).map(bytesOf) };
  });
}
