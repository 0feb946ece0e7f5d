/** Pages of instances: each begins where the one before ended, and reads no more for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JournalStore } from '../../src/broker/journal.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { Masks } from '../../src/console/messages/mask.ts';
import { WorkflowView } from '../../src/console/workflows/workflow-view.ts';
import { listKey } from '../../src/workflow/journal/keys.ts';
import { listFields } from '../../src/workflow/journal/starting.ts';

const masks = new Masks([]);

async function listed(
  journal: JournalStore,
  name: string,
  list: 'running' | 'done',
  count: number,
) {
  const key = listKey(name, list);
  for (let i = 0; i < count; i += 1000) {
    await journal.apply(
      Array.from({ length: Math.min(1000, count - i) }, (_, k) => {
        const status = list === 'done' && (i + k) % 4000 === 3999 ? 'failed' : 'completed';
        const fields = listFields({
          id: `${name}-${i + k}`,
          v: 1,
          ...(list === 'done' && { status }),
        });
        return { kind: 'add', key, fields } as const;
      }),
    );
  }
}

test('the pages of instances are all instances in their order, and each reads one page of the list', async () => {
  await using broker = await openBroker('memory:');
  const journal = broker.journal as JournalStore;
  await listed(journal, 'a', 'running', 2500);
  await listed(journal, 'a', 'done', 1200);
  await listed(journal, 'b', 'running', 130);
  let entries = 0;
  const { read } = journal;
  journal.read = async (key, range) => {
    const found = await read.call(journal, key, range);
    entries += found.length;
    return found;
  };
  const view = new WorkflowView(async () => broker);
  const ids: string[] = [];
  let after: string | null = null;
  do {
    entries = 0;
    const page = await view.page({ name: null, status: null, after }, masks);
    assert.ok(entries <= 1100, `${entries} entries for the page after ${after}`);
    ids.push(...page.instances.map(({ id }) => id));
    after = page.next;
  } while (after !== null);
  assert.equal(ids.length, 2500 + 1200 + 130);
  assert.deepEqual(ids.slice(0, 2), ['a-0', 'a-1']);
  assert.equal(ids[2500], 'a-0');
  assert.equal(ids.at(-1), 'b-129');
  const pages = view.page({ name: null, status: null, after: '7' }, masks);
  await assert.rejects(pages, { code: 'INVALID_ARGUMENT' });
  journal.read = read;
  await view.close();
});

test('a page of a rare status looks at a bounded part of the list, and the next one goes on', async () => {
  await using broker = await openBroker('memory:');
  const journal = broker.journal as JournalStore;
  await listed(journal, 'a', 'done', 24_000);
  const view = new WorkflowView(async () => broker);
  const found: string[] = [];
  let pages = 0;
  let after: string | null = null;
  do {
    const page = await view.page({ name: 'a', status: 'failed', after }, masks);
    found.push(...page.instances.map(({ id }) => id));
    after = page.next;
    pages++;
  } while (after !== null);
  assert.deepEqual(found, ['a-3999', 'a-7999', 'a-11999', 'a-15999', 'a-19999', 'a-23999']);
  assert.equal(pages, 3);
  await view.close();
});
