/**
 * `npm run screenshots`: the pictures of docs/pictures, taken of a server that a demo shop uses.
 *
 * Starts a server of its own, lets the demo run for a minute so that the charts have lines, and takes
 * each page with Debian's Chromium. Fails for a picture above 150 KB.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail, root, say } from './steps.mjs';
import './prepare.mjs';

const MOST_BYTES = 150_000;
const RUNNING_MS = 90_000;
const folder = join(root, 'docs', 'pictures');
const compiled = (path) => join(root, 'dist', 'test', path);

const { noBrowser, shown, startBrowser } = await import(compiled('console-web/browser.js'));
if (noBrowser !== undefined) fail(noBrowser);
const { startDemo } = await import(compiled('console-web/demo.js'));
const { startRivulet } = await import(compiled('helpers/rivulet-server.js'));
const { freePort } = await import(compiled('helpers/free-port.js'));

const server = await startRivulet({ args: ['--http-port', String(await freePort())] });
const base = `http://${server.host}:${server.httpPort}`;
const demo = await startDemo(`rivulet://${server.host}:${server.port}`);
demo.keepBusy(240);
const browser = await startBrowser();
mkdirSync(folder, { recursive: true });
// Series of a topic are recorded while it is looked at.
const topics = await browser.newPage();
await topics.goto(`${base}/console/topics/orders.created`);
say(`the demo runs for ${RUNNING_MS / 1000} s`);
await new Promise((resolve) => setTimeout(resolve, RUNNING_MS));

const { firstId } = await (await fetch(`${base}/console/api/v1/topics/orders.created`)).json();
const pictures = [
  { name: 'console-overview', path: '/', scheme: 'light', width: 1280 },
  { name: 'console-topic', path: '/topics/orders.created', scheme: 'dark', width: 1280 },
  {
    name: 'console-messages',
    path: '/topics/orders.created/messages',
    scheme: 'light',
    width: 1280,
  },
  { name: 'console-dead-letters', path: '/dead', scheme: 'light', width: 1280 },
  {
    name: 'console-journey',
    path: `/journey/orders.created/${firstId}`,
    scheme: 'light',
    width: 1280,
  },
  { name: 'console-phone', path: '/topics?sort=lag', scheme: 'dark', width: 320 },
];
for (const { name, path, scheme, width } of pictures) {
  const page = await browser.newPage({
    viewport: { width, height: width < 500 ? 640 : 800 },
    colorScheme: scheme,
  });
  await page.goto(`${base}/console${path}`);
  await shown(page);
  // The chart's code is loaded with the first chart.
  await page.waitForTimeout(1500);
  const debug = await page.context().newCDPSession(page);
  const format = { format: 'webp', quality: 82 };
  const { data } = await debug.send('Page.captureScreenshot', format);
  const bytes = Buffer.from(data, 'base64');
  await page.close();
  say(`${name}.webp  ${Math.round(bytes.length / 1000)} KB`);
  if (bytes.length > MOST_BYTES) fail(`${name}.webp is above ${MOST_BYTES} bytes`);
  writeFileSync(join(folder, `${name}.webp`), bytes);
}
await browser.close();
await demo[Symbol.asyncDispose]();
await server.stop();
process.exit(0);
