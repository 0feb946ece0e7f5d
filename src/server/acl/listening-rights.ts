/**
 * Closes subscribers and responders when the rights of their user change.
 *
 * SUBSCRIBE and RESPOND check rights when they run. After a change of rights, a client is closed if one of
 * its channels, patterns, shard channels or topics is no longer allowed. Other clients go on (Redis:
 * ACLKillPubsubClientsIfNeeded).
 * Cost: per client of that user, its names times the user's patterns.
 */

import type { ClientView } from '../connection/client-view.ts';
import type { ServerState } from '../server-state.ts';
import type { User } from './acl-user.ts';

/** Closes this user's clients that listen to what it may not; `self`, if it is one, after its reply. */
export function endForbiddenListeners(
  server: ServerState,
  user: User,
  self: ClientView | null,
): void {
  if (allows(user, null, false)) return;
  for (const connection of [...server.connections.values()]) {
    if (connection.user !== user || mayListen(connection, user)) continue;
    if (connection === self) connection.closeAfterReply();
    else connection.destroy();
  }
}

function mayListen({ subscriptions, requests }: ClientView, user: User): boolean {
  if (subscriptions?.every((name, isPattern) => allows(user, name, isPattern)) === false) {
    return false;
  }
  if (requests === null) return true;
  for (const topic of requests.topics) if (!allows(user, topic, false)) return false;
  return true;
}

/** `name` null: every channel. */
function allows({ root, selectors }: User, name: Buffer | null, isPattern: boolean): boolean {
  const sets = [root, ...selectors];
  if (name === null) return sets.some((set) => set.allChannels);
  return sets.some((set) => set.allowsChannel(name, isPattern));
}
