/** Records of a journal as they are read back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fieldsOf, readRecord } from '../../../src/workflow/journal/records.ts';

test('a record has its own time where it names one, and that of its id where it names none or no number', () => {
  const id = '1700000000000-3';
  const at = (...more: [] | [number]) =>
    readRecord({ id, fields: fieldsOf('tick', {}, ...more) })?.at;
  assert.deepEqual([at(), at(1_600_000_000_000)], [1_700_000_000_000, 1_600_000_000_000]);
  const fields = { ...fieldsOf('tick', {}), at: 'yesterday' };
  assert.equal(readRecord({ id, fields })?.at, 1_700_000_000_000);
});
