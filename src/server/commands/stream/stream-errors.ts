/**
 * The errors that several stream commands share, in Redis's exact words (those that all commands
 * share are in common.ts).
 */
import type { Session } from '../../connection/session.ts';

/** For XPENDING, XCLAIM, XAUTOCLAIM and XNACK. */
export function noGroup(session: Session, key: number, group: number): void {
  const { args, reply } = session;
  reply.errorBytes(
    `NOGROUP No such key '${args.latin1(key)}' or consumer group '${args.latin1(group)}'`,
  );
}

/** For XGROUP SETID, CREATECONSUMER, DELCONSUMER and XINFO CONSUMERS. */
export function noGroupForKey(session: Session, key: number, group: number): void {
  const { args, reply } = session;
  reply.errorBytes(
    `NOGROUP No such consumer group '${args.latin1(group)}' for key name '${args.latin1(key)}'`,
  );
}

export function noGroupToRead(session: Session, key: number, group: number): void {
  const { args, reply } = session;
  reply.errorBytes(
    `NOGROUP No such key '${args.latin1(key)}' or consumer group '${args.latin1(group)}' ` +
      'in XREADGROUP with GROUP option',
  );
}
