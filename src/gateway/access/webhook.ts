/**
 * Signatures of webhooks: Standard Webhooks, GitHub's and Stripe's.
 *
 * Invariants: the signature is of the bytes as they came; it is compared in constant time; one that is
 * older than the tolerance is refused (GitHub signs no time). Returns the sender's id of the delivery,
 * by which a repeated delivery is one event.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { HttpError } from '../http-error.ts';
import type { WebhookRule } from './rules.ts';

const TOLERANCE_MS = 300_000;

/** Throws 401 where no secret made this signature. */
export function verifyWebhook(
  rule: WebhookRule,
  headers: IncomingHttpHeaders,
  body: Buffer,
  nowMs: number,
): string | null {
  const { toleranceMs = TOLERANCE_MS } = rule;
  const fresh = (seconds: string) => {
    const age = Math.abs(nowMs - Number(seconds) * 1000);
    if (!/^\d{1,12}$/.test(seconds) || age > toleranceMs) refuse('the signature is too old');
  };
  switch (rule.kind) {
    case 'standard': {
      const id = one(headers, 'webhook-id');
      const time = one(headers, 'webhook-timestamp');
      fresh(time);
      const signed = Buffer.concat([Buffer.from(`${id}.${time}.`), body]);
      const given = one(headers, 'webhook-signature')
        .split(' ')
        .map((each) => /^v1,(.+)$/.exec(each)?.[1] ?? '');
      const keys = rule.secrets.map((secret) =>
        Buffer.from(secret.replace(/^whsec_/, ''), 'base64'),
      );
      mustMatch(keys, signed, given, 'base64');
      return id;
    }
    case 'github': {
      const given = /^sha256=([0-9a-f]{64})$/.exec(one(headers, 'x-hub-signature-256'))?.[1] ?? '';
      mustMatch(rule.secrets.map(bytesOf), body, [given], 'hex');
      return single(headers, 'x-github-delivery');
    }
    case 'stripe': {
      const parts = one(headers, 'stripe-signature')
        .split(',')
        .map((each) => each.trim().split('='));
      const time = parts.find(([name]) => name === 't')?.[1] ?? '';
      fresh(time);
      const given = parts.filter(([name]) => name === 'v1').map(([, value = '']) => value);
      const signed = Buffer.concat([Buffer.from(`${time}.`), body]);
      mustMatch(rule.secrets.map(bytesOf), signed, given, 'hex');
      return stripeId(body);
    }
  }
}

function mustMatch(
  keys: readonly Buffer[],
  signed: Buffer,
  given: readonly string[],
  encoding: 'hex' | 'base64',
): void {
  let isGood = false;
  for (const key of keys) {
    const expected = createHmac('sha256', key).update(signed).digest();
    for (const each of given.slice(0, 10)) {
      const bytes = Buffer.from(each, encoding);
      if (bytes.length === expected.length && timingSafeEqual(bytes, expected)) isGood = true;
    }
  }
  if (!isGood) refuse('the signature is wrong');
}

function stripeId(body: Buffer): string | null {
  try {
    const { id } = JSON.parse(body.toString());
    return typeof id === 'string' && id !== '' ? id : null;
  } catch {
    return null;
  }
}

function one(headers: IncomingHttpHeaders, name: string): string {
  return single(headers, name) ?? refuse(`the header ${name} is missing`);
}

function single(headers: IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  return typeof value === 'string' && value !== '' ? value.slice(0, 4096) : null;
}

function bytesOf(secret: string): Buffer {
  return Buffer.from(secret);
}

function refuse(reason: string): never {
  throw new HttpError(401, `this webhook is not accepted: ${reason}`);
}
