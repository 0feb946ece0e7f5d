/**
 * Hands that are faster than the page, or slower: keys between two frames, letters that are typed while a
 * filter is applied, a pause between two keys. The page is as fast or as slow as each test makes it.
 */
import assert from 'node:assert/strict';
import type { Page } from 'playwright-core';
import { browserTest, consoleForFile } from './browser.ts';

const TOPICS = 100;
const shared = consoleForFile(async (client) => {
  for (let number = 0; number < TOPICS; number += 1) {
    await client.call('XADD', `hand.${1000 + number}`, '*', 'body', '{"total":42}');
  }
});

/** Presses a key so often, each time in a task of its own, and faster than the page is drawn. */
const pressBetweenFrames = (page: Page, key: string, times: number) =>
  page.evaluate(`(async () => {
    const task = () => new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = resolve;
      port2.postMessage(0);
    });
    for (let press = 0; press < ${times}; press += 1) {
      const { activeElement } = document;
      activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: '${key}', bubbles: true }));
      await task();
    }
  })()`);

const focused = (page: Page) =>
  page.evaluate('document.activeElement.textContent.trim()') as Promise<string>;

async function openTopics(page: Page): Promise<void> {
  await page.getByText(`${TOPICS} of`).waitFor();
  await page.getByRole('link', { name: 'hand.1000' }).waitFor();
}

browserTest('keys that come faster than frames reach each row, down and up again', async () => {
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/topics?q=hand.');
  await openTopics(page);
  await pressBetweenFrames(page, 'j', TOPICS);
  assert.equal(await focused(page), 'hand.1099');
  await pressBetweenFrames(page, 'k', TOPICS - 1);
  assert.equal(await focused(page), 'hand.1000');
  tab.assertClean();
});

browserTest(
  'a key goes on from the row that has the focus, wherever the page is scrolled',
  async () => {
    await using tab = await shared.openTab();
    const { page } = tab;
    await tab.go('/topics?q=hand.');
    await openTopics(page);
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    assert.equal(await focused(page), 'hand.1001');
    await page.evaluate('window.scrollTo(0, document.body.scrollHeight)');
    await page.getByRole('link', { name: 'hand.1099' }).waitFor();
    await page.keyboard.press('j');
    assert.equal(await focused(page), 'hand.1002');
    tab.assertClean();
  },
);

browserTest('what is typed while a filter is applied stays in the field', async () => {
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/topics');
  const field = page.getByLabel('Part of the name');
  await field.waitFor();
  // The next letter comes in the moment in which the address takes the first.
  await page.evaluate(`(() => {
    const field = document.querySelector('#topics-q');
    const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value');
    window.written = [];
    Object.defineProperty(field, 'value', {
      get,
      set(text) {
        window.written.push(text);
        set.call(field, text);
      },
    });
    const replace = history.replaceState;
    history.replaceState = function (...args) {
      history.replaceState = replace;
      replace.apply(history, args);
      set.call(field, get.call(field) + '.1');
      field.dispatchEvent(new InputEvent('input', { bubbles: true }));
    };
  })()`);
  await field.pressSequentially('hand');
  await page.waitForURL(/q=hand\.1/);
  assert.equal(await field.inputValue(), 'hand.1');
  assert.deepEqual(await page.evaluate("window.written.filter((text) => text === 'hand')"), []);
  tab.assertClean();
});

browserTest('a filter that is cleared and typed again stays as it was typed', async () => {
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/topics/hand.1000/messages?where=json.total%20%3E%201000');
  const field = page.getByLabel('Only messages where');
  await field.waitFor();
  await page.evaluate(`(() => {
    const field = document.querySelector('#browse-where');
    for (const text of ['', 'json.total > 1']) {
      field.value = text;
      field.dispatchEvent(new InputEvent('input', { bubbles: true }));
    }
  })()`);
  await page.locator('tr[data-key]').first().waitFor();
  assert.equal(await field.inputValue(), 'json.total > 1');
  tab.assertClean();
});

browserTest(
  'the letter after g may come as late as a person likes; Escape ends the wait',
  async () => {
    await using tab = await shared.openTab();
    const { page } = tab;
    await page.clock.install();
    await tab.go('/');
    await page.keyboard.press('g');
    await page.getByText('t Topics').waitFor();
    await page.clock.fastForward(60_000);
    await page.keyboard.press('t');
    await page.waitForURL(/\/console\/topics/);
    await page.keyboard.press('g');
    await page.keyboard.press('Escape');
    await page.keyboard.press('s');
    assert.match(page.url(), /\/console\/topics/);
  },
);

browserTest('the heading of a new page has the focus as soon as it is there', async () => {
  await using tab = await shared.openTab();
  const { page } = tab;
  await tab.go('/');
  await page.evaluate(`(() => {
    window.seen = [];
    new MutationObserver(() => {
      const heading = document.querySelector('h1');
      if (heading?.textContent === 'Topics') window.seen.push(document.activeElement === heading);
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
  })()`);
  await page.keyboard.press('g');
  await page.keyboard.press('t');
  await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
  const seen = (await page.evaluate('window.seen')) as boolean[];
  assert.equal(seen[0], true);
});
