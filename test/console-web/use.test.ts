/**
 * A person uses the console in a browser: by keyboard alone, with names and bodies made to harm, through
 * an action, a login, and a server that starts again under an open tab.
 */
import assert from 'node:assert/strict';
import type { Page } from 'playwright-core';
import { connect } from '../../src/client/index.ts';
import { contract, createService, unary } from '../../src/index.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import {
  addressOf,
  browserTest,
  consoleForFile,
  shown,
  startConsole,
  startFront,
  violations,
} from './browser.ts';

const Greeter = contract('greeter', {
  Say: { Hello: unary<{ name: string }, { text: string }>() },
});
const shared = consoleForFile();
const publish = shared.publish.bind(shared);

const focused = (page: Page) =>
  page.evaluate('document.activeElement.textContent.trim()') as Promise<string>;

browserTest('a topic that is published to appears on the open page without a reload', async () => {
  await using tab = await shared.openTab();
  await publish('live.first', 'a');
  await tab.go('/topics?q=live.');
  await tab.page.getByRole('link', { name: 'live.first' }).waitFor();
  await publish('live.second', 'b');
  await tab.page.getByRole('link', { name: 'live.second' }).waitFor();
  tab.assertClean();
});

browserTest('the keyboard alone reaches a message: g t, j, Enter, the tabs, j, Enter', async () => {
  for (const name of ['keys.a', 'keys.b', 'keys.c']) await publish(name, '{"total":42}');
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/');
  await page.keyboard.press('g');
  await page.keyboard.press('t');
  await page.waitForURL(/\/console\/topics/);
  await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
  assert.equal(await focused(page), 'Topics', 'the heading has the focus');
  await page.keyboard.press('/');
  await page.keyboard.type('keys.');
  await page.keyboard.press('Enter');
  await page.waitForURL(/q=keys/);
  await page.getByRole('link', { name: 'keys.b' }).waitFor();
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  assert.equal(await focused(page), 'keys.b');
  await page.keyboard.press('k');
  assert.equal(await focused(page), 'keys.a');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'keys.a', level: 1 }).waitFor();
  await tabTo(page, 'Messages');
  await page.keyboard.press('Enter');
  await page.waitForURL(/\/messages/);
  await page.locator('tr[data-key]').first().waitFor();
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.waitForURL(/\/journey\/keys\.a\/\d+-\d+/);
  await page.getByText('"total"').waitFor();
  tab.assertClean();
});

browserTest('? lists the keys in a dialog, Escape closes it and gives the focus back', async () => {
  await using tab = await shared.openTab();
  await tab.go('/topics');
  await publish('help.topic', 'x');
  await tab.page.locator('tr[data-key]').first().waitFor();
  await tab.page.keyboard.press('j');
  const before = await focused(tab.page);
  await tab.page.keyboard.press('?');
  const dialog = tab.page.getByRole('dialog', { name: 'Keyboard' });
  await dialog.waitFor();
  assert.deepEqual(await violations(tab.page), []);
  await tab.page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.equal(await focused(tab.page), before);
});

browserTest('a key that is typed into a field moves nothing', async () => {
  await using tab = await shared.openTab();
  await tab.go('/topics');
  await tab.page.getByLabel('Part of the name').fill('');
  await tab.page.getByLabel('Part of the name').pressSequentially('gtj?/');
  assert.match(tab.page.url(), /\/console\/topics/);
  assert.equal(await tab.page.getByLabel('Part of the name').inputValue(), 'gtj?/');
});

browserTest('a row keeps the focus when the order of the rows changes', async () => {
  await publish('order.a', 'x');
  await publish('order.b', 'x');
  await publish('order.b', 'x');
  await using tab = await shared.openTab();
  await tab.go('/topics?q=order.&sort=length');
  await tab.page.getByRole('link', { name: 'order.b' }).focus();
  for (let number = 0; number < 5; number += 1) await publish('order.a', 'x');
  await tab.page.locator('tr[data-key="order.a"][data-index="0"]').waitFor();
  assert.equal(await focused(tab.page), 'order.b');
  tab.assertClean();
});

browserTest('names and bodies made to harm are text on every page', async () => {
  const names = [
    '<img src=x onerror=alert(1)>',
    '"><script>alert(1)</script>',
    'javascript:alert(1)',
    '../../../etc/passwd',
    '..',
    'a\u202egnp.exe',
    'a\u0000b',
    '__proto__',
    'constructor',
    '%2e%2e%2f',
    'a b?c#d&e=f',
  ];
  for (const name of names) {
    await shared.client.call(
      'XADD',
      name,
      '*',
      'body',
      `{"__proto__":{"x":"${name}"}}`,
      name,
      '<b>bold</b>',
    );
    await shared.client.call('XGROUP', 'CREATE', name, name, '0');
    await shared.client.call('XREADGROUP', 'GROUP', name, name, 'STREAMS', name, '>');
  }
  await publish('hostile.body', '<img src=x onerror="document.title=1">');
  await publish('hostile.body', Buffer.from([0xff, 0xfe, 0x00, 0xd8, 0x00, 0x80]));
  await publish('hostile.body', `${'['.repeat(100_000)}${']'.repeat(100_000)}`);
  await using tab = await shared.openTab();
  const alerts: string[] = [];
  tab.page.on('dialog', (dialog) => {
    alerts.push(dialog.message());
    dialog.dismiss();
  });
  await tab.go('/topics');
  for (const name of ['%2e%2e%2f', 'a b?c#d&e=f', 'hostile.body']) {
    await tab.page.getByRole('link', { name, exact: true }).waitFor();
  }
  const rows = "[...document.querySelectorAll('tr[data-key]')]";
  const listed = (await tab.page.evaluate(`${rows}.map((row) => row.dataset.key)`)) as string[];
  const hostile = listed.filter((name) => !/^(live|keys|order|help)\./.test(name));
  assert.equal(hostile.length, names.length + 1, hostile.join(' '));
  for (const name of hostile) {
    await tab.go('/topics');
    // By its name: the list may have another order by now.
    const row = `${rows}.find((row) => row.dataset.key === ${JSON.stringify(name)})`;
    await tab.page.evaluate(`${row}.id = 'chosen'`);
    await tab.page.locator('#chosen th a').click();
    await tab.page.waitForURL(/\/topics\/[^?]+$/);
    await shown(tab.page);
    const heading = await tab.page.locator('h1').textContent();
    assert.ok(heading, name);
    assert.equal(await tab.page.locator('.notice-broken').count(), 0, name);
    if (name === 'hostile.body') continue;
    await tab.page.locator('tbody th a').first().click();
    await tab.page.waitForURL(/\/groups\//);
    await shown(tab.page);
  }
  await tab.go('/topics/hostile.body/messages');
  await tab.page.locator('tr[data-key]').first().waitFor();
  const ids = await tab.page.evaluate(
    "[...document.querySelectorAll('tr[data-key]')].map((row) => row.dataset.key)",
  );
  for (const id of ids as string[]) {
    await tab.go(`/journey/hostile.body/${id}`);
    await tab.page.getByRole('heading', { name: 'Headers' }).waitFor();
  }
  assert.deepEqual(alerts, []);
  assert.equal(await tab.page.locator('main img, main script').count(), 0);
  tab.assertClean();
});

browserTest(
  'an action shows its dry run, counts in its button, asks for the name and is in the audit',
  async () => {
    await publish('act.orders', 'one');
    await publish('act.orders', 'two');
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/topics/act.orders');
    await page.getByRole('button', { name: /^Delete topic/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog
      .getByText(/delete act\.orders with 2 messages/)
      .first()
      .waitFor();
    assert.deepEqual(await violations(page), []);
    const submit = dialog.getByRole('button', { name: 'Delete topic: 1 topic' });
    assert.ok(await submit.isDisabled(), 'the name is not typed yet');
    await dialog.getByLabel(/Why/).fill('made for a test');
    await dialog.getByLabel(/Type act\.orders/).fill('act.orders');
    await submit.click();
    await page.waitForURL(/\/console\/topics$/);
    await page.getByRole('status').getByText('1 topic deleted').waitFor();
    assert.equal(Number(await shared.client.call('EXISTS', 'act.orders')), 0);
    await tab.go('/audit');
    await page.getByText('made for a test').first().waitFor();
    tab.assertClean();
  },
);

browserTest(
  'a message is published from the page, and what was typed is what is stored',
  async () => {
    await publish('form.orders', 'first');
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/topics/form.orders');
    await page.getByRole('button', { name: /^Publish/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Body').fill('{"a": "ü"}');
    await dialog.getByLabel('Headers').fill('tenant: eu\ncontent-type: application/json');
    await dialog.getByRole('button', { name: 'See what it does' }).click();
    await dialog.getByRole('button', { name: 'Publish: 1 message' }).click();
    await dialog.waitFor({ state: 'hidden' });
    const [, fields] = (
      (await shared.client.call('XREVRANGE', 'form.orders', '+', '-', 'COUNT', 1)) as unknown[][]
    )[0]!;
    const text = (fields as Buffer[]).map(String).join(' ');
    assert.match(text, /\{"a": "ü"\}/);
    assert.match(text, /"tenant":"eu"/);
    tab.assertClean();
  },
);

browserTest(
  'dead letters are chosen, redriven by one button with their count, and gone from the list',
  async () => {
    await shared.client.call('XADD', 'dl.orders', '*', 'body', 'x');
    for (const id of ['1-1', '1-2', '1-3']) {
      await shared.client.call(
        'XADD',
        'dl.orders.dead',
        '*',
        'body',
        `letter ${id}`,
        'rivulet-dead-topic',
        'dl.orders',
        'rivulet-dead-group',
        'billing',
        'rivulet-dead-id',
        id,
        'rivulet-dead-reason',
        'card declined',
        'rivulet-dead-attempts',
        '5',
      );
    }
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/topics?q=dl.orders.dead');
    await page.getByRole('link', { name: 'dl.orders.dead' }).waitFor();
    await tab.go('/dead?topic=dl.orders');
    const boxes = page.locator('tbody input[type=checkbox]');
    await boxes.nth(0).check();
    await boxes.nth(1).check();
    await page
      .getByRole('group', { name: 'Chosen messages' })
      .getByRole('button', { name: /^Redrive/ })
      .click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/Why/).fill('the bank is back');
    await dialog.getByRole('button', { name: 'Redrive: 2 messages' }).click();
    await dialog.waitFor({ state: 'hidden' });
    await page.getByRole('status').getByText('2 messages redriven').waitFor();
    assert.equal(Number(await shared.client.call('XLEN', 'dl.orders')), 3);
    assert.equal(Number(await shared.client.call('XLEN', 'dl.orders.dead')), 1);
    await page.locator('tr[data-key]', { hasText: 'dl.orders 1-' }).first().waitFor();
    tab.assertClean();
  },
);

browserTest(
  'a server that starts again under an open tab: the page says so, then goes on',
  async () => {
    await using directory = temporaryDirectory('restart');
    await using first = await startConsole([], directory.path);
    await using front = await startFront(first.httpPort);
    await using own = await connect({ port: first.port });
    await own.call('XADD', 'restart.topic', '*', 'body', 'x');
    await using tab = await shared.openTab(front.address);
    await tab.go('/topics');
    await tab.page.getByRole('link', { name: 'restart.topic' }).waitFor();
    front.behind = null;
    await first.stop();
    await tab.page
      .getByRole('alert')
      .getByText(/No connection since/)
      .waitFor();
    assert.ok(
      await tab.page.getByRole('link', { name: 'restart.topic' }).isVisible(),
      'the page stays',
    );
    await using second = await startConsole([], directory.path);
    await using again = await connect({ port: second.port });
    await again.call('XADD', 'restart.other', '*', 'body', 'x');
    front.behind = second.httpPort;
    await tab.page.getByRole('alert').waitFor({ state: 'detached' });
    await tab.page.getByRole('link', { name: 'restart.other' }).waitFor();
  },
);

browserTest(
  'the tail shows what is published while it is open, and holds still when asked',
  async () => {
    await publish('tail.orders', 'before');
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/topics/tail.orders/messages?mode=tail');
    await page.getByText('Waiting for messages').waitFor();
    const row = (text: string) => page.locator('tr[data-key]', { hasText: text });
    // The stream may open after the first of them: so several are published.
    for (let number = 0; number < 40 && (await row('after').count()) === 0; number += 1) {
      await publish('tail.orders', `after ${number}`);
      await row('after')
        .first()
        .waitFor({ timeout: 1000 })
        .catch(() => {});
    }
    assert.equal(await row('before').count(), 0, 'only what comes from now on');
    await page.getByRole('button', { name: 'Hold' }).click();
    await publish('tail.orders', 'while held');
    await page.getByText(/came while it was held/).waitFor();
    assert.equal(await row('while held').count(), 0);
    tab.assertClean();
  },
);

browserTest(
  '100 topics are at most 2000 nodes, and the keyboard reaches the last of them',
  async () => {
    for (let number = 0; number < 110; number += 1) await publish(`wide.${1000 + number}`, 'x');
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/topics?q=wide.');
    await page.getByText('110 of').waitFor();
    const nodes = () => page.evaluate("document.querySelectorAll('*').length") as Promise<number>;
    assert.ok((await nodes()) <= 2000, `${await nodes()} nodes`);
    await page.keyboard.press('j');
    for (let number = 1001; number < 1100; number += 1) {
      await page.keyboard.press('j');
      await page.locator(`tr[data-key="wide.${number}"]:focus-within`).waitFor();
    }
    assert.equal(await focused(page), 'wide.1099');
    assert.ok((await nodes()) <= 2000, `${await nodes()} nodes`);
    tab.assertClean();
  },
);

browserTest(
  'an endpoint is called by the form, and its reply and its error are shown',
  async () => {
    const url = `rivulet://${shared.server.host}:${shared.server.port}`;
    await using service = createService({
      name: 'greeter',
      broker: url,
      registry: `broker:${url}`,
    });
    service.handle(Greeter, {
      Say: {
        Hello: ({ name }) => {
          if (name === '') throw new Error('a name is needed');
          return { text: `Hello ${name}` };
        },
      },
    });
    await service.start();
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/services');
    await page.getByRole('link', { name: 'greeter' }).click();
    await page.getByRole('link', { name: 'Say.Hello' }).click();
    const request = page.getByLabel('Request (JSON)');
    await request.fill('{"name": "Ann"}');
    await page.getByRole('button', { name: 'Call Say.Hello' }).click();
    await page.getByText('Hello Ann').waitFor();
    await page
      .getByRole('status')
      .getByText(/Answered in/)
      .waitFor();
    assert.deepEqual(await violations(page), []);
    await request.fill('{"name": ');
    assert.ok(await page.getByRole('button', { name: 'Call Say.Hello' }).isDisabled());
    await request.fill('{"name": ""}');
    await page.getByRole('button', { name: 'Call Say.Hello' }).click();
    await page.getByText('a name is needed').first().waitFor();
    tab.assertClean();
  },
);

browserTest(
  'with a password the address leads to the login, and from there to the page',
  async () => {
    await using secret = await startConsole(['--requirepass', 'open sesame']);
    await using tab = await shared.openTab(addressOf(secret));
    const { page } = tab;
    await tab.go('/topics?sort=lag');
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    assert.deepEqual(await violations(page), []);
    await page.getByLabel('Password').fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').waitFor();
    await page.getByLabel('Password').fill('open sesame');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Topics' }).waitFor();
    assert.match(page.url(), /sort=lag/);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    // The browser notes each 401 itself.
    assert.deepEqual(
      tab.faults.filter((fault) => !/status of 401/.test(fault)),
      [],
    );
  },
);

browserTest('a user sees what the rules allow, and why the rest is not there', async () => {
  await using guarded = await startConsole(['--requirepass', 'root']);
  const root = await connect({ port: guarded.port, password: 'root' });
  await root.call('XADD', 'team.a', '*', 'body', 'x');
  await root.call('XADD', 'other.b', '*', 'body', 'x');
  await root.call('ACL', 'SETUSER', 'ann', 'on', '>pw', '~team.*', '+@read', '+@connection');
  await root.close();
  await using tab = await shared.openTab(addressOf(guarded));
  const { page } = tab;
  await tab.go('/topics');
  await page.getByLabel('User').fill('ann');
  await page.getByLabel('Password').fill('pw');
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'team.a' }).waitFor();
  assert.equal(await page.getByRole('link', { name: 'other.b' }).count(), 0);
  await tab.go('/topics/other.b');
  await page.locator('.notice').first().waitFor();
  assert.match((await page.locator('main').textContent()) ?? '', /may not see this|not here/);
  await tab.go('/topics/team.a');
  assert.equal(await page.getByRole('button', { name: /Delete topic/ }).count(), 0);
});

/** Presses Tab until the focus is on what has this text; fails after 60. */
async function tabTo(page: Page, text: string): Promise<void> {
  for (let presses = 0; presses < 60; presses += 1) {
    if ((await focused(page)) === text) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab does not reach "${text}"`);
}
