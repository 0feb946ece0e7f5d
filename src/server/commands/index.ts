/**
 * Every command the server has: the families, one file each. A family's file exports its rows.
 */
import type { Command } from '../command/command.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { aclCommands } from './acl.ts';
import { clientCommands } from './client.ts';
import { commandCommands } from './command.ts';
import { configCommands } from './config.ts';
import { connectionCommands } from './connection.ts';
import { databaseCommands } from './databases.ts';
import { debugCommands } from './debug.ts';
import { expiryCommands } from './expiry.ts';
import { infoCommands } from './info.ts';
import { keyCommands } from './keys.ts';
import { memoryCommands } from './memory.ts';
import { monitoringCommands } from './monitoring.ts';
import { objectCommands } from './objects.ts';
import { pubsubCommands } from './pubsub.ts';
import { requestCommands } from './request.ts';
import { scriptingCommands } from './scripting.ts';
import { serverCommands } from './server.ts';
import { streamCommands } from './stream/streams.ts';
import { numberCommands } from './string/string-numbers.ts';
import { stringCommands } from './string/strings.ts';
import { transactionCommands } from './transactions.ts';

export const allCommands: readonly Command<ClientSession>[] = [
  ...streamCommands,
  ...stringCommands,
  ...numberCommands,
  ...keyCommands,
  ...databaseCommands,
  ...expiryCommands,
  ...objectCommands,
  ...pubsubCommands,
  ...requestCommands,
  ...transactionCommands,
  ...scriptingCommands,
  ...connectionCommands,
  ...clientCommands,
  ...commandCommands,
  ...configCommands,
  ...aclCommands,
  ...infoCommands,
  ...memoryCommands,
  ...monitoringCommands,
  ...serverCommands,
  ...debugCommands,
];
