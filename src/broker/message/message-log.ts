/**
 * Reads the messages of topics where they are stored, without a group.
 *
 * Contract only; brokers whose server is asked by commands of ours have none. A place is the number that the
 * server gave to a message: places ascend, and some may be missing. Invariant: reading makes nothing and
 * takes nothing from a group.
 */
import type { RawMessage } from './message.ts';

export interface LogEdges {
  readonly length: number;
  /** Null: the topic is empty. */
  readonly first: LogEdge | null;
  readonly last: LogEdge | null;
}

export interface LogEdge {
  readonly place: number;
  /** Unix ms; null where the message has no time. */
  readonly at: number | null;
}

export interface LogRange {
  /** Inclusive; null = no bound. */
  readonly from: number | null;
  readonly to: number | null;
  /** From the highest place down. */
  readonly newest: boolean;
  readonly limit: number;
}

export interface LogEntry extends LogEdge {
  /** The id that its publisher and its consumers have, where that is not the place. */
  readonly id?: string;
  readonly message: RawMessage;
}

export interface MessageLog {
  /** Null: there is no such topic. */
  edges(topic: string): Promise<LogEdges | null>;
  read(topic: string, range: LogRange): Promise<LogEntry[]>;
  /** The place of the first message that was stored at a time (Unix ms) or later, or one behind the last. */
  placeAt(topic: string, ms: number): Promise<number>;
  /** Deletes one message; false: it is not there. Absent where the server deletes no single ones. */
  remove?(topic: string, place: number): Promise<boolean>;
  /**
   * Stores `message` in the topic `to`, once for each place and `variant`, then deletes the message at the
   * place. Returns the new id. Absent where `remove` is.
   */
  move?(
    from: string,
    place: number,
    to: string,
    message: RawMessage,
    variant: string,
  ): Promise<string>;
  /** How many dead letters of a topic wait for a redrive. Absent where that is its length. */
  waitingLetters?(deadTopic: string): Promise<number>;
}
