/** Names of topics, groups and patterns. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checkGroup,
  checkPattern,
  checkTopic,
  compilePattern,
} from '../../src/broker/topics/topics.ts';

test('topics are words between dots; everything else is TOPIC_ILLEGAL', () => {
  for (const good of ['a', 'orders.created', 'go.micro.srv:x', 'größe.漢字', 'a_b-c.1']) {
    checkTopic(good);
  }
  const bad = [
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    'a b',
    'a\n',
    'a.*',
    '>',
    'a#b',
    '{a}',
    'x'.repeat(256),
  ];
  for (const name of bad) assert.throws(() => checkTopic(name), { code: 'TOPIC_ILLEGAL' }, name);
});

test('patterns may hold * anywhere and > at the end', () => {
  for (const good of ['*', '>', 'a.*.c', 'a.>', '*.*.>']) checkPattern(good);
  for (const bad of ['a.>.b', 'a*', 'a.b>', '*.', '']) {
    assert.throws(() => checkPattern(bad), { code: 'TOPIC_ILLEGAL' }, bad);
  }
});

test('* is exactly one word, > one or more', () => {
  const matches = (pattern: string, topics: string[]) => topics.filter(compilePattern(pattern));
  const topics = ['a', 'a.b', 'a.b.c', 'a.c', 'b.b', 'aXb'];
  assert.deepEqual(matches('a', topics), ['a']);
  assert.deepEqual(matches('*', topics), ['a', 'aXb']);
  assert.deepEqual(matches('a.*', topics), ['a.b', 'a.c']);
  assert.deepEqual(matches('*.b', topics), ['a.b', 'b.b']);
  assert.deepEqual(matches('a.>', topics), ['a.b', 'a.b.c', 'a.c']);
  assert.deepEqual(matches('>', topics), topics);
  assert.deepEqual(matches('a.b', topics), ['a.b']);
});

test('a group has a name', () => {
  checkGroup('billing.v2');
  for (const bad of ['', 'a b', '*']) {
    assert.throws(() => checkGroup(bad), { code: 'INVALID_ARGUMENT' });
  }
});
