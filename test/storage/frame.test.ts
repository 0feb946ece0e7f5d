/**
 * Frames and segment headers: what is sealed reads back, and no flipped bit passes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bodyIsWhole,
  countZeroSectors,
  FRAME_HEADER,
  frameSize,
  LOG_FORMAT,
  moveFrame,
  newFrameHeader,
  readFrameHeader,
  readSegmentHeader,
  SECTOR,
  sealFrame,
  segmentHeader,
  segmentName,
  segmentStart,
} from '../../src/storage/log/frame.ts';
import { ByteWriter } from '../../src/util/byte-writer.ts';
import { Random } from '../../src/util/random.ts';

const FAR = 2 ** 52 + 12345;

function sealed(random: Random, salt: number): { frame: Buffer; length: number } {
  const writer = new ByteWriter(64);
  writer.ensure(FRAME_HEADER);
  writer.length = FRAME_HEADER;
  const length = random.below(random.pick([1, 500, 5000]));
  const zeros = random.chance(0.3);
  for (let i = 0; i < length; i++) writer.u8(zeros ? 0 : random.below(256));
  const size = sealFrame(writer, salt, 7, FAR, FAR - 5, random.chance(0.5));
  return { frame: Buffer.from(writer.buffer.subarray(0, size)), length };
}

test('a frame reads back as it was sealed, with positions up to 2^53', () => {
  const random = new Random(1);
  const header = newFrameHeader();
  for (let round = 0; round < 300; round++) {
    const { frame, length } = sealed(random, 99);
    assert.equal(frame.length % SECTOR, 0);
    assert.equal(frame.length, frameSize(length));
    assert.ok(readFrameHeader(frame, 0, 99, header));
    assert.deepEqual(
      [header.bodyLength, header.records, header.position, header.durable],
      [length, 7, FAR, FAR - 5],
    );
    assert.equal(header.zeroSectors, countZeroSectors(frame, 0, frame.length));
    assert.ok(bodyIsWhole(frame, 0, header));
    assert.equal(readFrameHeader(frame, 0, 98, header), false, 'another segment’s salt');
    moveFrame(frame, 17, 5);
    assert.ok(readFrameHeader(frame, 0, 5, header));
    assert.deepEqual([header.position, header.durable], [17, 17]);
    assert.ok(bodyIsWhole(frame, 0, header));
  }
});

test('any flipped bit of header or body is noticed', () => {
  const random = new Random(2);
  const header = newFrameHeader();
  for (let round = 0; round < 2000; round++) {
    const { frame, length } = sealed(random, round);
    const at = random.below(FRAME_HEADER + length);
    frame[at] ^= 1 << random.below(8);
    const whole = readFrameHeader(frame, 0, round, header) && bodyIsWhole(frame, 0, header);
    assert.equal(whole, false, `round ${round}, byte ${at} of ${length}`);
  }
});

test('random bytes are no frame and no segment', () => {
  const random = new Random(3);
  const header = newFrameHeader();
  for (let round = 0; round < 5000; round++) {
    const bytes = Buffer.from(Array.from({ length: 64 }, () => random.below(256)));
    assert.equal(readFrameHeader(bytes, 0, 0, header), false);
    assert.equal(readSegmentHeader(bytes), 'foreign');
    assert.equal(readFrameHeader(bytes.subarray(0, random.below(48)), 0, 0, header), false);
  }
});

test('a segment header survives the loss of either copy, not of both', () => {
  const start = 2 ** 40 + 3;
  for (let at = 0; at < 32; at++) {
    const sector = segmentHeader(start, 123456);
    sector[at] ^= 8;
    assert.deepEqual(readSegmentHeader(sector), { version: LOG_FORMAT, start, salt: 123456 });
    sector[256 + at] ^= 8;
    assert.ok(['damaged', 'foreign'].includes(String(readSegmentHeader(sector))));
  }
});

test('a segment’s name sorts as its position and gives it back', () => {
  for (const start of [0, 9, 10, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    assert.equal(segmentStart(segmentName(start)), start);
  }
  assert.ok(segmentName(9) < segmentName(10));
  assert.equal(segmentStart('log-9.rlog'), null);
});
