/** The names that go-micro's gateway gives to paths: its own tables, row by row. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  eventRoute,
  namespaceOf,
  resolveCall,
  resolveService,
  segmentsOf,
} from '../../src/gateway/routing/names.ts';

const N = 'go.micro.api';

function call(
  path: string,
  resolver: Parameters<typeof resolveCall>[0] = 'micro',
  method = 'POST',
) {
  const found = resolveCall(resolver, N, { method, path, host: 'api.example.com:8080' });
  return found === null ? null : `${found.service} ${found.endpoint}`;
}

test('the micro resolver names services and endpoints as go-micro does', () => {
  const rows: [string, string][] = [
    ['/foo', `${N}.foo Foo.Call`],
    ['/foo/bar', `${N}.foo Foo.Bar`],
    ['/foo/bar/baz', `${N}.foo Bar.Baz`],
    ['/foo/bar/baz-xyz', `${N}.foo Bar.BazXyz`],
    ['/foo/bar/baz/cat', `${N}.foo.bar Baz.Cat`],
    ['/v1/foo', `${N}.v1 V1.Foo`],
    ['/v1/foo/bar', `${N}.v1.foo Foo.Bar`],
    ['/v1/foo/bar/baz', `${N}.v1.foo Bar.Baz`],
    ['/v1/foo/bar/baz/cat', `${N}.v1.foo.bar Baz.Cat`],
    ['/learning/hi', `${N}.learning Learning.Hi`],
    ['/learning/greeter/hi', `${N}.learning Greeter.Hi`],
    ['/v2/learning/hi', `${N}.v2.learning Learning.Hi`],
    ['//foo//bar/', `${N}.foo Foo.Bar`],
  ];
  for (const [path, expected] of rows) assert.equal(call(path), expected, path);
});

test('the other resolvers take the service from path, host or gRPC path', () => {
  assert.equal(call('/foo/bar', 'path', 'GET'), `${N}.foo GET`);
  assert.equal(call('/v1/foo/bar', 'path'), `${N}.v1 POST`);
  assert.equal(call('/v1/foo/bar', 'vpath'), `${N}.v1.foo POST`);
  assert.equal(call('/foo/bar', 'vpath'), `${N}.foo POST`);
  assert.equal(call('/foo', 'host'), 'api.example.com POST');
  assert.equal(call('/foo.Bar/Svc', 'grpc'), 'foo Bar.Svc');
  assert.equal(call('/go.micro.srv.greeter.Say/Hello', 'grpc'), 'go.micro.srv.greeter Say.Hello');
  assert.equal(call('/foo/Svc', 'grpc'), null);
});

test('http and web handlers name the service by its first segment, or the second of a version', () => {
  const at = (path: string, host = 'localhost') =>
    resolveService('micro', N, { method: 'GET', path, host });
  assert.deepEqual(at('/foo/bar'), { service: `${N}.foo`, prefix: '/foo' });
  assert.deepEqual(at('/v1/foo/bar'), { service: `${N}.v1.foo`, prefix: '/v1/foo' });
  assert.deepEqual(at('/v1'), { service: `${N}.v1`, prefix: '/v1' });
  assert.equal(at('/foo_bar/x'), null);
  assert.equal(at('/-foo/x'), null);
  const web = resolveService('subdomain', 'go.micro.web', {
    method: 'GET',
    path: '/x',
    host: 'foo.example.com:80',
  });
  assert.deepEqual(web, { service: 'go.micro.web.foo', prefix: '' });
});

test('events have go-micro’s topics and names, or the documented ones', () => {
  const rows: [string, string, string, string][] = [
    ['/user/login', `${N}.user`, 'login', 'login'],
    ['/user/a/b', `${N}.user`, 'a.b', 'a.b'],
    ['/v1/foo/bar', `${N}.v1.foo`, 'foo.bar', 'bar'],
    ['/foo', `${N}.foo`, '', 'foo'],
    ['/', N, 'event', 'event'],
  ];
  for (const [path, topic, name, documented] of rows) {
    assert.deepEqual(eventRoute(N, segmentsOf(path)!), { topic, name }, path);
    assert.equal(eventRoute(N, segmentsOf(path)!, 'documented').name, documented, path);
  }
});

test('a path that could mean another one has no name', () => {
  for (const path of [
    '/foo/../bar',
    '/foo/./bar',
    '/foo/%2e%2e/bar',
    '/foo%2fbar/x',
    '/foo\\bar',
    '/foo%5cbar',
    '/foo%00/bar',
    '/foo/%ff',
    '/foo/%zz',
    '/foo bar',
    '/foo/%0d%0aSet-Cookie',
    '/a..b/c',
    '/a%2e%2e/b',
    '/.a/b',
    '/a/b.',
    '/foo/*',
    '/foo/>',
  ]) {
    assert.equal(segmentsOf(path), null, path);
    assert.equal(call(path), null, path);
  }
});

test('the namespace "domain" is the subdomain in reverse, and go.micro for what has none', () => {
  assert.equal(namespaceOf('domain', 'api', 'staging.eu.myapp.com:8080'), 'eu.staging.api');
  assert.equal(namespaceOf('domain', 'api', 'myapp.com'), 'go.micro.api');
  assert.equal(namespaceOf('domain', 'api', 'localhost:8080'), 'go.micro.api');
  assert.equal(namespaceOf('domain', 'api', '10.0.0.1:8080'), 'go.micro.api');
  assert.equal(namespaceOf('go.micro', 'evt', 'x'), 'go.micro.evt');
  assert.equal(namespaceOf('go.micro', '', 'x'), 'go.micro');
});
