/**
 * Where pushes to one client are written: messages of channels, requests, answers to requests.
 *
 * A push is no reply. It is written at any time, caused by any client, and follows the reply of the
 * command that its receiver runs, if it runs one.
 */
import type { Engine } from '../../engine/engine.ts';
import type { Reply } from './reply.ts';

export interface PushTarget {
  readonly engine: Engine;
  /** Where the next push is written. Read it again for each push. */
  readonly pushes: Reply;
  /**
   * To be called after each push. It is sent at the end of the event loop's turn. `start` is the length
   * of `pushes` before the push; give it only when the push shows no stored data, so that it need not
   * wait for the disk.
   */
  written(start?: number): void;
  /** Whether more requests may be sent: the client reads what it is sent. */
  readonly hasRoom: boolean;
}
