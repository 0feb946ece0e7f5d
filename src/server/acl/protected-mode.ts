/**
 * Which connections are refused: those beyond `maxclients`, and in protected mode those from other machines.
 *
 * Protected mode (Redis's): while the default user has no password, only clients of this machine are
 * served, whatever addresses the server listens on.
 */
import type { Socket } from 'node:net';
import type { ServerState } from '../server-state.ts';

/** The error to send before closing, without `-`; null = the connection is accepted. */
export function connectionRefusal(server: ServerState, socket: Socket): string | null {
  if (isFull(server)) {
    return 'ERR max number of clients reached';
  }
  if (server.config.yes('protected-mode') && server.acl.open && !isLocal(socket.remoteAddress)) {
    return PROTECTED;
  }
  return null;
}

/** The number of clients has reached `maxclients`; connections in a TLS handshake count. */
export function isFull({ connections, handshaking, config }: ServerState): boolean {
  return connections.size + handshaking.size >= config.number('maxclients');
}

/** Loopback, or a unix socket (which has no address). */
export function isLocal(address: string | undefined): boolean {
  if (address === undefined) return true;
  return address === '::1' || /^(::ffff:)?127\./.test(address);
}

export const PROTECTED =
  'DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. ' +
  'In this mode connections are only accepted from the loopback interface. ' +
  'If you want to connect from external computers to Redis you may adopt one of the following solutions: ' +
  "1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface " +
  'by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. ' +
  'Use CONFIG REWRITE to make this change permanent. ' +
  "2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. " +
  "3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. " +
  '4) Set up an authentication password for the default user. ' +
  'NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.';
