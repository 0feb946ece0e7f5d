/** Records of other programs: read when they can be, refused with a reason when not, never a crash. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RivuletError } from '../../src/errors.ts';
import {
  decodeRecord,
  encodeRecord,
  isAddress,
  mergeRecords,
  splitAddress,
} from '../../src/registry/record.ts';
import { fc } from '../helpers/property.ts';

test('a record as Go writes it, nil lists and maps included, is read whole', () => {
  const record = decodeRecord(
    '{"name":"go.micro.api.userservices","version":"latest","metadata":null,"endpoints":[{"name":"UserSrv.GetAccount","request":{"name":"GetAccountRequest","type":"GetAccountRequest","values":[{"name":"id","type":"int32","values":null}]},"response":null,"metadata":{}}],"nodes":[{"id":"go.micro.api.userservices-1","address":"10.0.0.5:40001","metadata":null}]}',
  );
  assert.equal(record.endpoints[0]?.request?.values[0]?.type, 'int32');
  assert.deepEqual(record.endpoints[0]?.request?.values[0]?.values, []);
  assert.deepEqual({ ...record.nodes[0]?.metadata }, {});
  assert.deepEqual(
    JSON.parse(encodeRecord(record)),
    JSON.parse(encodeRecord(decodeRecord(encodeRecord(record)))),
  );
});

test('a value nested deeper than go-micro describes ends, however deep it was written', () => {
  let value = '{"name":"x","type":"T","values":null}';
  for (let depth = 0; depth < 2000; depth++) value = `{"name":"x","type":"T","values":[${value}]}`;
  const record = decodeRecord(
    `{"name":"s","version":"1","endpoints":[{"name":"A.B","request":${value}}],"nodes":[]}`,
  );
  let depth = 0;
  for (let at = record.endpoints[0]?.request; at; at = at.values[0]) depth++;
  assert.equal(depth, 4);
});

test('any JSON and any text is a record or DECODING_FAILED', () => {
  const reads = (text: string) => {
    try {
      decodeRecord(text);
    } catch (error) {
      assert.ok(error instanceof RivuletError, String(error));
      assert.equal(error.code, 'DECODING_FAILED');
    }
  };
  fc.assert(fc.property(fc.json(), reads));
  fc.assert(fc.property(fc.string(), reads));
  const field = fc.oneof(fc.jsonValue(), fc.constant('127.0.0.1:1'));
  const shaped = fc.record(
    {
      name: field,
      version: field,
      metadata: field,
      endpoints: fc.array(fc.record({ name: field, request: field, metadata: field })),
      nodes: fc.array(fc.record({ id: field, address: field, metadata: field })),
    },
    { requiredKeys: [] },
  );
  fc.assert(fc.property(shaped, (value) => reads(JSON.stringify(value))));
});

test('an address is host:port, IPv6 in brackets, and nothing else', () => {
  for (const good of [
    'a:1',
    '10.0.0.5:40001',
    'host.example:65535',
    '[::1]:80',
    '[fe80::1%eth0]:1',
  ]) {
    assert.ok(isAddress(good), good);
  }
  for (const bad of [
    '',
    'a',
    ':1',
    'a:',
    'a:0',
    'a:65536',
    'a:1:2',
    '::1:80',
    'a b:1',
    'u@h:1',
    'javascript:alert(1)',
    'http://h:1',
    '[a:1',
    'a:+1',
    'a:1e3',
  ]) {
    assert.ok(!isAddress(bad), bad);
  }
  assert.deepEqual(splitAddress('[::1]:80'), { host: '::1', port: 80 });
});

test('records of one version merge, a node named twice counts once, the last one', () => {
  const one = (version: string, id: string, address: string) =>
    decodeRecord(JSON.stringify({ name: 's', version, nodes: [{ id, address, metadata: null }] }));
  const merged = mergeRecords([one('1', 'a', 'h:1'), one('2', 'b', 'h:2'), one('1', 'a', 'h:3')]);
  assert.deepEqual(
    merged.map(({ version, nodes }) => [version, nodes.map(({ address }) => address)]),
    [
      ['1', ['h:3']],
      ['2', ['h:2']],
    ],
  );
});
