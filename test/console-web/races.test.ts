/**
 * What comes late or at the same time: replies after a frame of the live stream or after another page, two
 * tabs that act on one message, a session that ends in the middle of an action, a thousand frames.
 */
import assert from 'node:assert/strict';
import type { Route } from 'playwright-core';
import { connect } from '../../src/client/index.ts';
import { addressOf, browserTest, consoleForFile, startConsole } from './browser.ts';

const ANN = ['ACL', 'SETUSER', 'ann', 'on', '>ann', '~*', '&*', '+@all'];
const shared = consoleForFile();
const publish = shared.publish.bind(shared);

function gate() {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

/** The reply of the server is fetched at once and arrives when the gate opens. */
const late = (arrived: () => void, opened: Promise<void>) => async (route: Route) => {
  const response = await route.fetch();
  arrived();
  await opened;
  await route.fulfill({ response }).catch(() => {});
};

browserTest(
  'a reply that is older than a frame of the live stream does not replace it',
  async () => {
    await publish('late.reply', 'a');
    await using tab = await shared.openTab();
    const { page } = tab;
    const [asked, released] = [gate(), gate()];
    await page.route('**/api/v1/topics/late.reply', late(asked.open, released.opened));
    const loaded = page.goto(`${shared.base}/console/topics/late.reply`);
    await asked.opened;
    await publish('late.reply', 'b');
    const messages = page.locator('.figure', { hasText: /^Messages/ });
    await messages.getByText('2', { exact: true }).waitFor();
    released.open();
    await loaded;
    // The late reply says 1; one more frame proves that it has been taken in.
    await page.waitForLoadState('networkidle', { timeout: 2000 }).catch(() => {});
    assert.match((await messages.textContent()) ?? '', /2/);
  },
);

browserTest('a topic that is deleted elsewhere is not shown as if it were there', async () => {
  await publish('gone.soon', 'a');
  await using tab = await shared.openTab();
  await tab.go('/topics/gone.soon');
  await shared.client.call('DEL', 'gone.soon');
  await tab.page.getByText('This is not here').waitFor();
});

browserTest('a filter that is typed and left changes no other page', async () => {
  await publish('typed.a', 'a');
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/topics');
  await page.getByLabel('Part of the name').fill('typed');
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: 'Server' }).click();
  await page.getByRole('heading', { name: 'Server', level: 1 }).waitFor();
  // Longer than the pause after which a filter is applied.
  await page.waitForTimeout(400);
  assert.equal(new URL(page.url()).search, '');
});

browserTest(
  'an action that ends after its page was left does not lead the person away',
  async () => {
    await publish('slow.delete', 'a');
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/server');
    await page.getByRole('link', { name: 'Topics' }).click();
    await page.getByRole('link', { name: 'slow.delete' }).click();
    const [asked, released] = [gate(), gate()];
    await page.getByRole('button', { name: /^Delete/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Type/).fill('slow.delete');
    await dialog.getByLabel(/^Why/).fill('a test');
    await page.route('**/api/v1/actions/topic.delete', late(asked.open, released.opened));
    await dialog.getByRole('button', { name: /: 1 topic$/ }).click();
    await asked.opened;
    await page.goBack();
    await page.goBack();
    await page.getByRole('heading', { name: 'Server', level: 1 }).waitFor();
    released.open();
    await page.getByText('1 topic deleted').waitFor();
    assert.match(page.url(), /\/console\/server$/);
  },
);

browserTest('going to another page takes the dialog away, and back leaves it closed', async () => {
  await publish('with.dialog', 'a');
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/topics');
  await page.getByRole('link', { name: 'with.dialog' }).click();
  await page.getByRole('button', { name: /^Publish/ }).click();
  await page.getByRole('dialog').waitFor();
  await page.goBack();
  await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
  assert.equal(await page.getByRole('dialog').count(), 0);
  await page.goForward();
  await page.getByRole('button', { name: /^Publish/ }).waitFor();
  assert.equal(await page.getByRole('dialog').count(), 0);
});

browserTest(
  'two tabs redrive one dead letter: one copy, and the other tab says why not',
  async () => {
    await shared.client.call('XADD', 'twice', '*', 'body', 'first');
    const letter = ['rivulet-dead-topic', 'twice', 'rivulet-dead-group', 'g'];
    const more = ['rivulet-dead-id', '1-0', 'rivulet-dead-reason', 'no'];
    await shared.client.call('XADD', 'twice.dead', '*', ...letter, ...more, 'body', 'first');
    await using one = await shared.openTab();
    await using two = await shared.openTab();
    for (const tab of [one, two]) await tab.go('/dead?topic=twice');
    const redrive = (tab: typeof one) =>
      tab.page.getByRole('button', { name: /^Edit twice/ }).click();
    await redrive(one);
    await redrive(two);
    for (const { page } of [one, two]) {
      const dialog = page.getByRole('dialog');
      await dialog.getByLabel('Body').fill('changed');
      await dialog.getByRole('button', { name: 'See what it does' }).click();
      await dialog.getByRole('button', { name: /^Edit: 1/ }).waitFor();
    }
    await one.page.getByRole('button', { name: /^Edit: 1/ }).click();
    await one.page.getByText(/1 message published/).waitFor();
    // The list of the second tab may have changed by now: its dialog is still there.
    await two.page.getByRole('button', { name: /^Edit: 1/ }).click();
    await two.page.getByText(/not there any more/).waitFor();
    assert.equal(await shared.client.call('XLEN', 'twice'), 2);
  },
);

browserTest('a row that another tab takes away does not take the open dialog with it', async () => {
  const letter = [
    'rivulet-dead-topic',
    'kept',
    'rivulet-dead-group',
    'g',
    'rivulet-dead-id',
    '1-0',
  ];
  const id = String(await shared.client.call('XADD', 'kept.dead', '*', ...letter, 'body', 'x'));
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/dead');
  await page.getByRole('button', { name: /^Edit kept/ }).click();
  const body = page.getByRole('dialog').getByLabel('Body');
  await body.fill('much was written here');
  await shared.client.call('XDEL', 'kept.dead', id);
  await page.getByRole('link', { name: 'kept 1-0', exact: true }).waitFor({ state: 'detached' });
  assert.equal(await body.inputValue(), 'much was written here');
});

browserTest(
  'a session that ends in an action: log in, the dialog is as it was, and the action works',
  async () => {
    await using closed = await startConsole(['--requirepass', 'secret']);
    await using admin = await connect({ port: closed.port, password: 'secret' });
    await admin.call(...ANN);
    await admin.call('XADD', 'orders', '*', 'body', 'x');
    await using tab = await shared.openTab(addressOf(closed));
    const { page } = tab;
    const logIn = async (user: string) => {
      await page.getByLabel('User').fill(user);
      await page.getByLabel('Password').fill(user);
      await page.getByRole('button', { name: 'Log in' }).click();
    };
    await page.goto(`${addressOf(closed)}/console/topics/orders`);
    await logIn('ann');
    await page.getByRole('button', { name: /^Publish/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Body').fill('typed before the session ended');
    await admin.call('ACL', 'SETUSER', 'ann', 'off');
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    assert.equal(await dialog.count(), 0, 'the login is not behind a dialog');
    await admin.call('ACL', 'SETUSER', 'ann', 'on');
    await logIn('ann');
    await dialog.waitFor();
    assert.equal(await dialog.getByLabel('Body').inputValue(), 'typed before the session ended');
    await dialog.getByRole('button', { name: 'See what it does' }).click();
    await dialog.getByRole('button', { name: /^Publish: 1/ }).click();
    await page.getByText('1 message published').waitFor();
    assert.equal(await admin.call('XLEN', 'orders'), 2);
  },
);

browserTest('another user who logs in is shown nothing of the one before', async () => {
  await using closed = await startConsole(['--requirepass', 'secret']);
  await using admin = await connect({ port: closed.port, password: 'secret' });
  await admin.call(...ANN);
  await admin.call('ACL', 'SETUSER', 'bob', 'on', '>bob', '~shop.*', '&*', '+@read', '+ping');
  await admin.call('XADD', 'secret.topic', '*', 'body', 'x');
  await admin.call('XADD', 'shop.orders', '*', 'body', 'x');
  await using tab = await shared.openTab(addressOf(closed));
  const { page } = tab;
  const logIn = async (user: string) => {
    await page.getByLabel('User').fill(user);
    await page.getByLabel('Password').fill(user);
    await page.getByRole('button', { name: 'Log in' }).click();
  };
  await page.goto(`${addressOf(closed)}/console/topics`);
  await logIn('ann');
  await page.getByRole('link', { name: 'secret.topic' }).waitFor();
  await admin.call('ACL', 'SETUSER', 'ann', 'off');
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  // Whatever the page shows from now on is looked at, also what it shows for one frame.
  await page.evaluate(`(() => {
    window.seen = [];
    const look = () => window.seen.push(document.body.innerText.includes('secret.topic'));
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, attributes: true });
  })()`);
  await logIn('bob');
  await page.getByRole('link', { name: 'shop.orders' }).waitFor();
  assert.equal(await page.evaluate('window.seen.some((each) => each)'), false);
  assert.equal(await page.evaluate("document.body.innerHTML.includes('secret.topic')"), false);
});

browserTest('a thousand frames of the live stream leave no memory behind', async () => {
  await publish('much.live', 'a');
  await using tab = await shared.openTab();
  const { page } = tab;
  let round = 0;
  const row = (n: number, at: number) => ({
    name: `topic-${n}`,
    length: at * 7 + n,
    rate: at / 3,
    lag: n,
    pending: at % (n + 1),
    groups: 1,
    bytes: at * 100,
    bytesOnDisk: 0,
    oldestAt: Date.now(),
    newestAt: Date.now(),
    deadOf: null,
  });
  // 250 frames a connection; the browser connects again by itself.
  await page.route('**/api/v1/live**', async (route) => {
    const watch = new URL(route.request().url()).searchParams.get('watch') ?? '';
    const name = watch.split(',').find((each) => each.startsWith('topics:')) ?? '';
    const frames = Array.from({ length: 250 }, (_, at) => {
      const topics = Array.from({ length: 100 }, (_, n) => row(n, round * 250 + at));
      const value = {
        at: Date.now(),
        topics,
        total: 100,
        matched: 100,
        hidden: 0,
        next: null,
        complete: true,
      };
      const frame = {
        at: Date.now(),
        snapshot: at === 0,
        parts: { [name]: { kind: 'value', value } },
      };
      return `event: frame\ndata: ${JSON.stringify(frame)}\n\n`;
    });
    round++;
    await route.fulfill({ contentType: 'text/event-stream', body: frames.join('') });
  });
  await tab.go('/topics');
  const session = await page.context().newCDPSession(page);
  const used = async (): Promise<{ heap: number; nodes: number }> => {
    await session.send('HeapProfiler.enable');
    for (let n = 0; n < 3; n++) await session.send('HeapProfiler.collectGarbage');
    const { usedSize } = (await session.send('Runtime.getHeapUsage')) as { usedSize: number };
    const { nodes } = (await session.send('Memory.getDOMCounters')) as { nodes: number };
    return { heap: usedSize, nodes };
  };
  const until = async (wanted: number) => {
    while (round < wanted) await page.waitForTimeout(100);
  };
  await until(2);
  const first = await used();
  await until(7);
  const last = await used();
  const grown = last.heap - first.heap;
  assert.ok(grown < 3 * 1024 * 1024, `${grown} bytes more after 1,250 more frames`);
  assert.ok(last.nodes - first.nodes < 3000, `${last.nodes - first.nodes} nodes more`);
});
