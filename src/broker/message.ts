/**
 * What is sent: headers, a body of bytes, and the key that orders it.
 */
export interface Message {
  /** Any Unicode names and values. Names beginning with `rivulet-` are ours. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Messages of one key keep their order where `ordered: 'by-key'`. */
  readonly key?: string;
}

/** Headers that dead letters carry. */
export const deadLetterHeaders = {
  topic: 'rivulet-dead-topic',
  group: 'rivulet-dead-group',
  id: 'rivulet-dead-id',
  reason: 'rivulet-dead-reason',
  attempts: 'rivulet-dead-attempts',
  time: 'rivulet-dead-time',
} as const;
