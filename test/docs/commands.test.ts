/**
 * The commands and files of the pages for operators run as they are written.
 *
 * A page's `sh` blocks run in order, in one directory, beside servers of the test: the ports of the page
 * (7488, 7489, 6379) are replaced by those of the servers. A line that starts a server runs until it is
 * ready. A `conf` block is the file that its first line names; a server starts on it.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { errorTable } from '../../src/errors.ts';
import { shell, untilReady } from '../cli/micro.ts';
import { makeCertificates } from '../helpers/certificates.ts';
import { freePort } from '../helpers/free-port.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { repositoryRoot } from '../house/source-file.ts';

const PAGES = ['production.md', 'from-redis.md', 'to-a-cluster.md'];

for (const page of PAGES) {
  const skip = missing('redis-server', 'redis-cli');
  test(`the commands of docs/${page} run as they are written`, { skip }, async () => {
    await using home = temporaryDirectory('home');
    writeFileSync(join(home.path, 'server.conf'), '');
    await using server = await startRivulet({
      args: ['--config', join(home.path, 'server.conf'), '--http-port', String(await freePort())],
    });
    await using redis = await startRedis();
    const env = { XDG_CONFIG_HOME: home.path };
    const here = (text: string) =>
      text
        .replaceAll('7488', String(server.port))
        .replaceAll('7489', String(server.httpPort))
        .replaceAll('6379', String(redis.port));
    let run = 0;
    for (const { language, text } of blocksOf(page)) {
      if (language === 'conf') {
        const [, name = ''] = /^# (\S+)\n/.exec(text) ?? [];
        assert.match(name, /^[a-z]+\.conf$/, `a conf block of ${page} begins with its file name`);
        await startsWith(home.path, name, text, env);
        run++;
      }
      if (language !== 'sh') continue;
      for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
        if (line.startsWith('micro server ')) continue; // ran with its file
        const { code, stdout, stderr } = await shell(here(line), { env, cwd: home.path });
        assert.equal(code, 0, `${line}\n${stdout}${stderr}`);
        assert.doesNotMatch(stdout, /^(ERR|NOAUTH|WRONGPASS|NOPERM|MISCONF)\b/m, line);
        run++;
      }
    }
    assert.ok(run >= 2, `${run} commands`);
  });
}

/** Starts a server on the file of a page, with ports of the test. */
async function startsWith(
  directory: string,
  name: string,
  text: string,
  env: Record<string, string>,
): Promise<void> {
  if (text.includes('tls-port')) makeCertificates(directory);
  const own = text
    .replace('7488', String(await freePort()))
    .replace('7489', String(await freePort()))
    .replace('dir ./data', `dir ./data-of-${name}`);
  writeFileSync(join(directory, name), own);
  const { code, stdout, stderr } = await untilReady(`micro server --config ${name}`, {
    env,
    cwd: directory,
  });
  assert.equal(code, 0, `${name}\n${stdout}${stderr}`);
}

test('every metric of the dashboard and of the alerts is one that the server has', async () => {
  await using server = await startRivulet({ args: ['--http-port', String(await freePort())] });
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  // The series of groups are there as soon as a group is.
  await broker.subscribe('orders', () => {}, { group: 'billing' });
  const reply = await fetch(`http://127.0.0.1:${server.httpPort}/metrics`);
  const known = new Set(
    [...(await reply.text()).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name),
  );
  for (const file of ['grafana-dashboard.json', 'alerts.yml']) {
    const text = readFileSync(join(repositoryRoot, 'docs', 'monitoring', file), 'utf8');
    const named = new Set(
      [...text.matchAll(/\b(?:rivulet|process|nodejs)_[a-z0-9_]+/g)].map(([name]) => name),
    );
    assert.ok(named.size >= 8, `${file} names ${named.size} metrics`);
    for (const name of named) {
      assert.ok(known.has(name.replace(/_(bucket|sum|count)$/, '')), `${file}: ${name}`);
    }
  }
});

test('the dashboard is JSON that Grafana imports: panels with queries of one data source', () => {
  const file = join(repositoryRoot, 'docs', 'monitoring', 'grafana-dashboard.json');
  const dashboard = JSON.parse(readFileSync(file, 'utf8'));
  assert.equal(typeof dashboard.uid, 'string');
  const ids = new Set<number>();
  for (const panel of dashboard.panels) {
    ids.add(panel.id);
    assert.ok(panel.targets.length > 0, panel.title);
    assert.ok(panel.description.length > 0, panel.title);
    assert.equal(panel.datasource.uid, `$${'{datasource}'}`);
    const { x, w } = panel.gridPos;
    assert.ok(x >= 0 && x + w <= 24, panel.title);
  }
  assert.equal(ids.size, dashboard.panels.length);
});

test('docs/errors.md has a row for each error code, with the numbers of the table', () => {
  const page = readFileSync(join(repositoryRoot, 'docs', 'errors.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` \| (.*) \|$/gm)].map(([, code, rest]) => {
    const [http, rpc, retryable, what = '', remedy = ''] = (rest as string).split(' | ');
    assert.ok(what.length > 10 && remedy.length > 3, `${code} says what happened and what to do`);
    return [code, { http: Number(http), rpc: Number(rpc), retryable: retryable === 'yes' }];
  });
  const expected = Object.entries(errorTable).map(([code, { http, rpc, retryable }]) => [
    code,
    { http, rpc, retryable },
  ]);
  assert.deepEqual(rows, expected);
});

function blocksOf(page: string): { language: string; text: string }[] {
  const text = readFileSync(join(repositoryRoot, 'docs', page), 'utf8');
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language = '', body = '']) => ({
    language,
    text: body,
  }));
}
