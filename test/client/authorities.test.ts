/** Texts that are authorities, and those that only look so. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { faultOfAuthorities } from '../../src/client/authorities.ts';
import { checkTls } from '../../src/transport/tls.ts';
import { makeCertificates, missingOpenssl } from '../helpers/certificates.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

test('only a text of whole certificates is a list of authorities', {
  skip: missingOpenssl,
}, async () => {
  await using home = temporaryDirectory('authorities');
  const { ca, caText, otherCaText, key } = makeCertificates(home.path);
  const file = join(home.path, 'trusted.pem');
  execFileSync('openssl', ['x509', '-in', ca, '-trustout', '-out', file]);
  for (const good of [
    caText,
    `a comment\n${caText}\nanother\n${otherCaText}`,
    caText.replaceAll('\n', '\r\n'),
    Buffer.from(caText),
    readFileSync(file),
  ]) {
    assert.equal(faultOfAuthorities(good), null);
    checkTls({ ca: [good] });
  }
  const faults: [text: string, fault: RegExp][] = [
    ['', /holds no certificate/],
    ['hello', /holds no certificate/],
    [readFileSync(key, 'utf8'), /holds no certificate/],
    [caText.slice(0, 200), /is cut/],
    [caText + otherCaText.slice(0, 200), /is cut/],
    [caText.slice(0, 200) + otherCaText, /is cut/],
    [caText + otherCaText.replace('MII', 'XYZ'), /certificate 2 of 2 cannot be read/],
  ];
  for (const [text, fault] of faults) {
    assert.match(faultOfAuthorities(text) ?? '', fault, JSON.stringify(text));
    assert.throws(() => checkTls({ ca: text }), { code: 'INVALID_ARGUMENT' });
    assert.throws(() => checkTls({ ca: [caText, text] }), { code: 'INVALID_ARGUMENT' });
  }
});
