/**
 * HELLO: what the command asks for, and its reply. Used by a server that serves and by one that loads.
 */
import type { Arguments } from '../../util/arguments.ts';
import type { Reply } from '../output/reply.ts';
import { REDIS_VERSION } from '../version.ts';

export const BAD_NAME = 'ERR Client names cannot contain spaces, newlines or special characters.';

/** The same error as that of AUTH. */
export const WRONGPASS = 'WRONGPASS invalid username-password pair or user is disabled.';

export const NO_PASSWORD =
  'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?';

export const HELLO_NOAUTH =
  'NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time';

export interface Hello {
  readonly protocol: 2 | 3;
  /** The argument that is the user's name, the password follows; 0 = no AUTH. */
  readonly userAt: number;
  /** The argument that is the client's name; 0 = no SETNAME. */
  readonly nameAt: number;
}

/** What HELLO's arguments ask for, or the error to reply with. `protocol`: the one in use. */
export function readHello(args: Arguments, protocol: 2 | 3): Hello | string {
  let wanted: number = protocol;
  if (args.count > 1) {
    const version = args.integer(1);
    if (version === null) return 'ERR Protocol version is not an integer or out of range';
    if (version !== 2 && version !== 3) return 'NOPROTO unsupported protocol version';
    wanted = version;
  }
  let userAt = 0;
  let nameAt = 0;
  for (let i = 2; i < args.count; i++) {
    const more = args.count - 1 - i;
    if (args.is(i, 'AUTH') && more >= 2) {
      userAt = i + 1;
      i += 2;
    } else if (args.is(i, 'SETNAME') && more >= 1) {
      nameAt = i + 1;
      if (!isPrintable(args.view(nameAt))) return BAD_NAME;
      i++;
    } else {
      return `ERR Syntax error in HELLO option '${args.text(i)}'`;
    }
  }
  return { protocol: wanted as 2 | 3, userAt, nameAt };
}

/** The reply, in the protocol that `reply` has been set to. */
export function writeHello(reply: Reply, id: number): void {
  reply.map(7);
  reply.bulkText('server');
  reply.bulkText('redis');
  reply.bulkText('version');
  reply.bulkText(REDIS_VERSION);
  reply.bulkText('proto');
  reply.integer(reply.protocol);
  reply.bulkText('id');
  reply.integer(id);
  reply.bulkText('mode');
  reply.bulkText('standalone');
  reply.bulkText('role');
  reply.bulkText('master');
  reply.bulkText('modules');
  reply.array(0);
}

/** Whether a client may be called so: printable ASCII without spaces. */
export function isPrintable(bytes: Uint8Array): boolean {
  return bytes.every((code) => code >= 33 && code <= 126);
}
