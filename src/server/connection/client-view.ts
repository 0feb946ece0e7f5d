/**
 * A client as the rest of the server sees it: what CLIENT LIST, INFO, ACL and the limits read of it, and
 * what they may do to it.
 *
 * connection.ts implements it. It does not refer to the server's state, so that the state can hold views.
 */
import type { Socket } from 'node:net';
import type { Engine } from '../../engine/engine.ts';
import type { Database } from '../../engine/keyspace/database.ts';
import type { User } from '../acl/acl-user.ts';
import type { CommandEntry } from '../command/command-table.ts';
import type { RequestSession } from '../command/request-session.ts';
import type { Subscriptions } from '../command/subscriptions.ts';
import type { Transaction } from '../command/transaction.ts';
import type { ReplyWriter } from '../output/reply-writer.ts';

export interface ClientView {
  // Identity
  readonly id: number;
  readonly engine: Engine;
  readonly socket: Socket;
  /** `127.0.0.1:5000`. */
  readonly address: string;
  readonly localAddress: string;
  /** Over a unix socket. */
  readonly isLocalSocket: boolean;
  readonly name: string;
  readonly libName: string;
  readonly libVersion: string;
  readonly user: User;
  readonly authenticated: boolean;
  readonly database: Database;

  // What it does
  readonly lastCommand: CommandEntry | null;
  /** How many it has run. */
  readonly commands: number;
  /** Monotonic ms. */
  readonly createdAt: number;
  /** Monotonic ms when bytes were last received. */
  readonly activeAt: number;
  /** Monotonic ms when bytes were last received or sent. */
  readonly lastActiveAt: number;
  /** A blocking command waits. */
  readonly blocked: boolean;
  /** A command waits: it is blocked, or held by CLIENT PAUSE or for memory. */
  readonly commandWaits: boolean;
  /** The client waits: for a command, for its turn, or for messages, requests or answers. */
  readonly waits: boolean;
  /** Subscribed to a channel, a pattern or a shard channel. */
  readonly listening: boolean;
  /** In MONITOR mode. */
  readonly isMonitor: boolean;
  readonly noEvict: boolean;
  readonly noTouch: boolean;
  readonly transaction: Transaction | null;
  readonly subscriptions: Subscriptions | null;
  readonly requests: RequestSession | null;

  // Bytes: client-memory.ts adds them up
  readonly inputBytes: number;
  readonly outputBytes: number;
  /** Received and not parsed. */
  readonly inputWaiting: number;
  /** The buffers that hold it. */
  readonly inputHeld: number;
  /** Commands that wait. */
  readonly waitingBytes: number;
  readonly reply: ReplyWriter;
  /** Pushes that wait for the running command's reply. */
  readonly pushBytes: number;
  readonly output: {
    /** Bytes not yet taken by the kernel. */
    readonly pending: number;
    /** Pieces that wait for the disk. */
    readonly held: number;
    /** Bytes handed to the socket that the kernel has not taken. */
    readonly unsent: number;
  };
  readonly heldBytes: number;
  /** No command runs until the client has read its output. */
  readonly outputSuspended: boolean;
  /** Nothing is read from the socket. */
  readonly readPaused: boolean;

  // What may be done to it
  /** Checks what changes with time. To be called once a second. */
  eachSecond(monotonic: number): void;
  /** CLIENT PAUSE has ended. */
  unpaused(): void;
  /** CLIENT UNBLOCK. False when it is not blocked. */
  unblock(withError: boolean): boolean;
  /** Ends the connection once every reply has been sent. */
  closeAfterReply(): void;
  /** Ends the connection at once. */
  destroy(): void;
}
