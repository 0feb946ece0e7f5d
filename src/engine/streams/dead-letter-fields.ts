/**
 * The fields that a dead letter has beside those of the entry it was: where from, why, after how much.
 *
 * The same names are headers where a broker makes dead letters itself.
 */
export const deadLetterFields = {
  topic: 'rivulet-dead-topic',
  group: 'rivulet-dead-group',
  id: 'rivulet-dead-id',
  reason: 'rivulet-dead-reason',
  attempts: 'rivulet-dead-attempts',
  time: 'rivulet-dead-time',
} as const;
