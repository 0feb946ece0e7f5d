/**
 * The errors that several stream commands share, in Redis's exact words (those that all commands
 * share are in common.ts).
 */
import type { Session } from '../session.ts';

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

/** Known subcommand, wrong options. `subcommand` is what the client wrote. */
export function subcommandSyntax(session: Session, container: string): void {
  // Redis cuts the echo of what it was sent at 128 bytes.
  const subcommand = session.args.latin1(1).slice(0, 128);
  session.reply.errorBytes(
    `ERR unknown subcommand or wrong number of arguments for '${subcommand}'. Try ${container} HELP.`,
  );
}
