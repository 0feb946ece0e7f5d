/**
 * Every page, light and dark, wide and narrow, full and empty: nothing for axe, no error in the console, no
 * report of the content security policy, and nothing wider than the window.
 */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import type { Browser } from 'playwright-core';
import type { RivuletServer } from '../helpers/rivulet-server.ts';
import {
  addressOf,
  browserTest,
  inBrowser,
  noBrowser,
  openTab,
  startBrowser,
  startConsole,
  violations,
} from './browser.ts';
import { type Demo, startDemo } from './demo.ts';

let browser: Browser;
let full: RivuletServer;
let empty: RivuletServer;
let demo: Demo;

before(async () => {
  if (noBrowser !== undefined) return;
  full = await startConsole();
  empty = await startConsole();
  browser = await startBrowser();
  demo = await startDemo(`rivulet://${full.host}:${full.port}`);
});

after(async () => {
  await demo?.[Symbol.asyncDispose]();
  await browser?.close();
  await Promise.all([full?.[Symbol.asyncDispose](), empty?.[Symbol.asyncDispose]()]);
});

const PAGES = [
  '/',
  '/topics?sort=lag',
  '/topics/orders.created',
  '/topics/orders.created/messages',
  '/topics/orders.created/messages?where=json.total%20%3E%201000',
  '/topics/orders.created/messages?mode=tail',
  '/topics/emails/scheduled',
  '/topics/emails/groups/mailer',
  '/dead',
  '/journey',
  '/journey/orders.created/ID',
  '/traces/4bf92f3577b34da6a3ce929d0e0e4736',
  '/services',
  '/services/payments?endpoint=Cards.Charge',
  '/workflows',
  '/workflows/order/order-3',
  '/workflows/parcel/parcel-1',
  '/server',
  '/server?show=clients',
  '/server?show=slow',
  '/server?show=config',
  '/audit',
  '/no/such/page',
];

for (const colorScheme of ['light', 'dark'] as const) {
  for (const width of colorScheme === 'light' ? [320, 768, 1280] : [320, 1280]) {
    browserTest(`full pages, ${colorScheme}, ${width} px`, async (t) => {
      await using tab = await openTab(browser, addressOf(full), {
        colorScheme,
        viewport: { width, height: 800 },
      });
      const id = await firstId();
      for (const path of PAGES) {
        await t.test(
          path,
          inBrowser(async () => {
            await tab.go(path.replace('ID', id));
            assert.deepEqual(await violations(tab.page), []);
            assert.deepEqual(await tooWide(tab), [], 'nothing is wider than the window');
            assert.deepEqual(await squeezed(tab), [], 'no text is a column of letters');
            assert.deepEqual(await cut(tab), [], 'a cell has room for its text and its label');
            assert.ok((await nodes(tab)) <= 2000, `${await nodes(tab)} nodes`);
            assert.deepEqual(tab.faults.splice(0), []);
          }),
        );
      }
    });
  }
}

browserTest('empty pages say what to do', async (t) => {
  await using tab = await openTab(browser, addressOf(empty));
  const pages: [string, RegExp][] = [
    ['/', /No topic yet[\s\S]*micro publish/],
    ['/topics', /No topic yet[\s\S]*micro publish/],
    ['/topics?q=nothing', /No topic has “nothing” in its name[\s\S]*Show all topics/],
    ['/dead', /No dead letter[\s\S]*policy/],
    ['/journey', /Follow one message/],
    ['/services', /No service/],
    ['/workflows', /No workflow/],
    ['/audit', /No action yet|No audit/],
    ['/topics/missing', /This is not here/],
  ];
  for (const [path, text] of pages) {
    await t.test(
      path,
      inBrowser(async () => {
        await tab.go(path);
        assert.match((await tab.page.locator('main').textContent()) ?? '', text);
        assert.deepEqual(await violations(tab.page), []);
        // A page that is not there is a request that failed, and the browser says so.
        const faults = tab.faults.splice(0).filter((fault) => !/status of 404/.test(fault));
        assert.deepEqual(faults, []);
      }),
    );
  }
});

browserTest('forced colours: what a fill shows is seen, and axe finds nothing', async (t) => {
  await using tab = await openTab(browser, addressOf(full), { forcedColors: 'active' });
  for (const path of ['/', '/topics/orders.created', '/dead', '/workflows/parcel/parcel-1']) {
    await t.test(
      path,
      inBrowser(async () => {
        await tab.go(path);
        assert.deepEqual(await violations(tab.page), []);
        const hidden = await tab.page.evaluate(`(() => {
        const colour = (each) => getComputedStyle(each).backgroundColor;
        return [...document.querySelectorAll('.bar > span, .timeline > span')]
          .filter((each) => each.offsetWidth > 0 && colour(each) === colour(each.parentElement))
          .map((each) => each.outerHTML);
      })()`);
        assert.deepEqual(hidden, [], 'the fill of a bar differs from its ground');
        assert.deepEqual(tab.faults.splice(0), []);
      }),
    );
  }
  await tab.go('/topics/orders.created');
  await tab.page.keyboard.press('Tab');
  const outline = await tab.page.evaluate('getComputedStyle(document.activeElement).outlineStyle');
  assert.notEqual(outline, 'none', 'the focus is seen');
  const current = (await tab.page.evaluate(`(() => {
    const weight = (each) => getComputedStyle(each).fontWeight;
    const tabs = [...document.querySelectorAll('.tabs a')];
    return tabs.map((each) => [each.hasAttribute('aria-current'), weight(each)]);
  })()`)) as [boolean, string][];
  const weights = new Set(current.map(([is, weight]) => `${is} ${weight}`));
  assert.equal(weights.size, 2, 'the tab that is shown differs by more than its colour');
});

browserTest('reduced motion: nothing moves by itself, on no page and in no dialog', async () => {
  await using tab = await openTab(browser, addressOf(full), { reducedMotion: 'reduce' });
  const moving = () =>
    tab.page.evaluate(`[...document.querySelectorAll('*')]
      .map((each) => [each, getComputedStyle(each)])
      .filter(([, style]) => style.animationName !== 'none' || !/^0s(, 0s)*$/.test(style.transitionDuration))
      .map(([each]) => each.outerHTML.slice(0, 100))`);
  for (const path of ['/', '/topics', '/dead', '/services', '/audit']) {
    await tab.go(path);
    assert.deepEqual(await moving(), [], path);
  }
  await tab.go('/topics/orders.created');
  await tab.page.getByRole('button', { name: /^Publish/ }).click();
  await tab.page.getByRole('dialog').waitFor();
  assert.deepEqual(await moving(), []);
});

async function firstId(): Promise<string> {
  const response = await fetch(`${addressOf(full)}/console/api/v1/topics/orders.created`);
  const { firstId: id } = (await response.json()) as { firstId: string };
  return id;
}

const nodes = (tab: { page: { evaluate(script: string): Promise<unknown> } }) =>
  tab.page.evaluate("document.querySelectorAll('*').length") as Promise<number>;

/** Cells with a text for which they leave less than 40 px. */
const squeezed = (tab: { page: { evaluate(script: string): Promise<unknown> } }) =>
  tab.page.evaluate(`[...document.querySelectorAll('table td, table th')]
    .filter((each) => {
      const style = getComputedStyle(each);
      if (each.innerText.trim().length < 8 || style.position === 'absolute') return false;
      return each.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) < 40;
    })
    .slice(0, 3)
    .map((each) => each.outerHTML.slice(0, 200))`) as Promise<string[]>;

/** Cells of tables whose text or label goes over their lower edge. */
const cut = (tab: { page: { evaluate(script: string): Promise<unknown> } }) =>
  tab.page.evaluate(`[...document.querySelectorAll('table td')]
    .filter((each) => getComputedStyle(each).position !== 'absolute')
    .filter((each) => each.scrollHeight > each.clientHeight + 2)
    .slice(0, 3)
    .map((each) => each.outerHTML.slice(0, 200))`) as Promise<string[]>;

/** Elements that make the document wider than the window, the outermost of each. */
const tooWide = (tab: { page: { evaluate(script: string): Promise<unknown> } }) =>
  tab.page.evaluate(`(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    return [...document.querySelectorAll('main *')]
      .filter((each) => each.getBoundingClientRect().right > root.clientWidth + 1)
      .slice(0, 3)
      .map((each) => each.outerHTML.slice(0, 200));
  })()`) as Promise<string[]>;
