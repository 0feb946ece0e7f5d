/**
 * All stream commands, in one list.
 */
import type { Command } from '../../command/command.ts';
import { scheduleCommands } from '../schedule.ts';
import { streamAckCommands } from './stream-ack.ts';
import { streamAddCommands } from './stream-add.ts';
import { streamClaimCommands } from './stream-claim.ts';
import { streamConfigCommands } from './stream-config.ts';
import { streamDeleteCommands } from './stream-delete.ts';
import { streamGroupCommands } from './stream-group.ts';
import { streamInfoCommands } from './stream-info.ts';
import { streamPendingCommands } from './stream-pending.ts';
import { streamRangeCommands } from './stream-range.ts';
import { streamReadCommands } from './stream-read.ts';

export const streamCommands: readonly Command[] = [
  ...streamAddCommands,
  ...streamRangeCommands,
  ...streamReadCommands,
  ...streamDeleteCommands,
  ...streamGroupCommands,
  ...streamAckCommands,
  ...streamPendingCommands,
  ...streamClaimCommands,
  ...streamConfigCommands,
  ...streamInfoCommands,
  ...scheduleCommands,
];
