/**
 * go-micro's mDNS registry beside ours, both directions. Go speaks on every interface and on port 5353,
 * so the programs run in a separate network, which needs Linux's `unshare` and `ip`.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runTool } from '../../helpers/children.ts';
import { missingGo } from './go-programs.ts';
import { ownNetwork } from './record-mdns.ts';

const PEER = fileURLToPath(new URL('./go-mdns-peer.js', import.meta.url));

const noNetwork =
  spawnSync('unshare', ['-rn', 'sh', '-c', ownNetwork('true')]).status !== 0 &&
  'needs unshare and ip, to make a network of its own';

for (const version of ['v2', 'v4', 'v5'] as const) {
  const protocol = version === 'v2' ? 'grpc' : 'mucp';
  test(`go-micro ${version} and we find each other over mDNS and call by ${protocol}`, {
    skip: noNetwork || missingGo(version),
  }, async () => {
    const line = ownNetwork('"$0" "$@"');
    const args = ['-rn', 'sh', '-c', line, process.execPath, PEER, version, protocol];
    const { code, stdout, stderr } = await runTool('unshare', args);
    assert.equal(code, 0, `${stdout}${stderr}`);
  });
}
