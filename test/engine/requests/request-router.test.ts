/**
 * Streams both ways under random commands, compared with a naive twin that counts credit itself.
 *
 * RIVULET_SEED repeats a failure with its seed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RequestPeer } from '../../../src/engine/requests/request-peer.ts';
import { MESSAGE_OVERHEAD, RequestRouter } from '../../../src/engine/requests/request-router.ts';
import { Random } from '../../../src/util/random.ts';
import { seedNamed } from '../../helpers/seed.ts';

interface Twin {
  callerCredit: number;
  responderCredit: number;
  callerEnded: boolean;
  responderEnded: boolean;
  over: boolean;
}

const seed = seedNamed('request router');

test(`credit, ends and failures of streams are those of a naive twin (seed ${seed})`, () => {
  const random = new Random(seed);
  const below = (most: number) => random.below(most);
  const router = new RequestRouter<number>({ keep: (size) => size, size: (size) => size });
  const twins = new Map<number, Twin>();
  /** What each side was notified of, by stream. */
  const received = { caller: new Map<number, string[]>(), responder: new Map<number, string[]>() };
  const note = (side: 'caller' | 'responder', id: number, what: string) => {
    const list = received[side].get(id) ?? [];
    list.push(what);
    received[side].set(id, list);
  };
  const listener = (side: 'caller' | 'responder') => ({
    request: (id: number) => note(side, id, 'request'),
    opened: (id: number, _: string, window: number) => note(side, id, `opened ${window}`),
    sent: (id: number, size: number) => note(side, id, `sent ${size}`),
    ended: (id: number) => note(side, id, 'ended'),
    granted: (id: number, bytes: number) => note(side, id, `granted ${bytes}`),
    cancelled: (id: number) => note(side, id, 'cancelled'),
    reply: (id: number, kind: string, size: number) => note(side, id, `${kind} ${size}`),
    failed: (id: number, code: string) => note(side, id, `failed ${code}`),
  });
  const caller: RequestPeer<number> = new RequestPeer(router, listener('caller'));
  const responder: RequestPeer<number> = new RequestPeer(router, listener('responder'));
  responder.respond('t', 'g', 8, 300);
  const last = (side: 'caller' | 'responder', id: number) => received[side].get(id)?.at(-1);
  const broken = (id: number, twin: Twin) => {
    twin.over = true;
    assert.equal(last('caller', id), 'failed PROTOCOL');
    assert.equal(last('responder', id), 'cancelled');
  };
  let highest = 0;
  for (let step = 0; step < 20_000; step++) {
    const open = [...twins].filter(([, twin]) => !twin.over);
    if (open.length < 6 && below(3) === 0) {
      const window = 1 + below(400);
      const id = caller.open('t', Number.POSITIVE_INFINITY, 0, window, 1) as number;
      assert.equal(id, highest + 1);
      highest = id;
      assert.equal(last('responder', id), `opened ${window}`);
      assert.equal(last('caller', id), 'granted 300');
      twins.set(id, {
        callerCredit: 300,
        responderCredit: window,
        callerEnded: false,
        responderEnded: false,
        over: false,
      });
      continue;
    }
    if (highest === 0) continue;
    // Now and then one that has ended, or was never there.
    const id =
      below(10) === 0 || open.length === 0 ? 1 + below(highest + 1) : open[below(open.length)][0];
    const twin = twins.get(id);
    const isOver = twin === undefined || twin.over;
    const size = below(200);
    switch (below(7)) {
      case 0:
      case 1: {
        const may = !isOver && !twin.callerEnded && twin.callerCredit > 0;
        assert.equal(caller.send(id, size), may);
        if (isOver) break;
        if (!may) broken(id, twin);
        else {
          twin.callerCredit -= size + MESSAGE_OVERHEAD;
          assert.equal(last('responder', id), `sent ${size}`);
        }
        break;
      }
      case 2:
      case 3: {
        const may = !isOver && !twin.responderEnded && twin.responderCredit > 0;
        assert.equal(responder.reply(id, 'more', size), may);
        if (isOver) break;
        if (!may) broken(id, twin);
        else {
          twin.responderCredit -= size + MESSAGE_OVERHEAD;
          assert.equal(last('caller', id), `more ${size}`);
        }
        break;
      }
      case 4: {
        const byCaller = below(2) === 0;
        const bytes = below(300);
        assert.equal((byCaller ? caller : responder).grant(id, bytes), !isOver);
        if (isOver) break;
        if (byCaller) twin.responderCredit += bytes;
        else twin.callerCredit += bytes;
        assert.equal(last(byCaller ? 'responder' : 'caller', id), `granted ${bytes}`);
        break;
      }
      case 5: {
        const may = !isOver && !twin.callerEnded;
        assert.equal(caller.sendEnd(id), may);
        if (isOver) break;
        if (!may) {
          broken(id, twin);
          break;
        }
        twin.callerEnded = true;
        assert.equal(last('responder', id), 'ended');
        twin.over = twin.responderEnded;
        break;
      }
      default: {
        const how = below(4);
        if (how === 0) {
          assert.equal(caller.cancel(id), !isOver);
          if (isOver) break;
          twin.over = true;
          assert.equal(last('responder', id), 'cancelled');
          break;
        }
        const may = !isOver && !twin.responderEnded;
        const kind = how === 1 ? 'reply' : 'end';
        assert.equal(responder.reply(id, kind, size), may);
        if (isOver) break;
        if (!may) {
          broken(id, twin);
          break;
        }
        assert.equal(last('caller', id), `${kind} ${size}`);
        twin.responderEnded = true;
        twin.over = kind === 'reply' || twin.callerEnded;
      }
    }
    const alive = [...twins.values()].filter((each) => !each.over).length;
    assert.equal(caller.asked.size, alive);
    assert.equal(responder.given.size, alive);
  }
  assert.ok(highest > 100, `${highest} streams`);
});
