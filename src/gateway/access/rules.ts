/**
 * Rules: the limits of the requests of a path: authentication, rate, size and time.
 *
 * Invariants: the rule with the longest prefix that matches whole segments holds, and takes what it does
 * not say from the shorter ones; a path falls under the same rule however it is written (`//orders`,
 * `/%6frders`); a rule that is wrong stops the start. Cost: one walk over the rules.
 */
import {
  checkOptions,
  count,
  invalid,
  type OptionTable,
  timeout,
} from '../../client/option-table.ts';
import { plainSegments } from '../routing/names.ts';

export interface RuleOptions {
  /** Path prefix of whole segments: `/orders` holds for `/orders` and `/orders/...`. */
  readonly path: string;
  /** `none`, or any of the ways of authentication that are set up. */
  readonly auth?: 'none' | 'required';
  /** Each of them must be among the scopes of the token or key. */
  readonly scopes?: readonly string[];
  /** Requests a second of one client, and how many at once after a pause. */
  readonly rateLimit?: { readonly perSecond: number; readonly burst?: number };
  readonly maxBodyBytes?: number;
  /** Until the answer must be there. */
  readonly timeoutMs?: number;
  readonly bodyTimeoutMs?: number;
  /** A webhook, whose signature is checked before its event is published. */
  readonly webhook?: WebhookRule;
}

export interface WebhookRule {
  readonly kind: 'standard' | 'github' | 'stripe';
  /** Any of them is accepted, so that a secret can be replaced. */
  readonly secrets: readonly string[];
  /** How old a signature may be. Default 300 000. */
  readonly toleranceMs?: number;
}

export interface Rule {
  readonly path: string;
  readonly auth: 'none' | 'required';
  readonly scopes: readonly string[];
  readonly rateLimit: { readonly perSecond: number; readonly burst: number } | null;
  readonly maxBodyBytes: number;
  readonly timeoutMs: number;
  readonly bodyTimeoutMs: number;
  /** Each of them checks the signature of a request. */
  readonly webhooks: readonly WebhookRule[];
}

const other = { kind: 'other', check() {} } as const;
const TABLE: OptionTable = {
  path: { kind: 'text' },
  auth: {
    kind: 'other',
    check(value, name) {
      if (value !== 'none' && value !== 'required') throw invalid(`${name} is none or required`);
    },
  },
  scopes: other,
  rateLimit: other,
  maxBodyBytes: count(0, 2 ** 31 - 1),
  timeoutMs: timeout(1),
  bodyTimeoutMs: timeout(1),
  webhook: other,
};

export class Rules {
  readonly #rules: readonly Rule[];

  /** `base` holds where no rule does. Throws INVALID_ARGUMENT. */
  constructor(base: Omit<Rule, 'path'>, rules: readonly RuleOptions[]) {
    const made: Rule[] = [{ ...base, path: '' }];
    const named = rules.map((rule) => ({ ...rule, path: canonical(checkPath(rule)) }));
    for (const rule of named.sort((a, b) => a.path.length - b.path.length)) {
      made.push(resolve(rule, longest(made, rule.path)));
    }
    this.#rules = made.reverse();
  }

  /** Always one: the base, whose path is empty. */
  of(path: string): Rule {
    if (this.#rules.length === 1) return this.#rules[0] as Rule;
    const plain = canonical(path);
    const rule = this.#longest(plain);
    if (!plain.includes(';')) return rule;
    // Servers written in Java read `/orders;x` as `/orders`, others as another path: both rules hold.
    const other = this.#longest(plain.replace(/;[^/]*/g, ''));
    return other === rule ? rule : strictest(rule, other);
  }

  #longest(path: string): Rule {
    return this.#rules.find((rule) => holds(rule.path, path)) as Rule;
  }

  /**
   * The rules of further paths of what a path reaches, where they say something else than `rule`: one
   * that is not a shorter prefix of its path.
   */
  beside(rule: Rule, paths: readonly string[]): readonly Rule[] {
    if (this.#rules.length === 1) return [];
    const found = new Set(paths.map((path) => this.of(path)));
    return [...found].filter((each) => each.path !== '' && !holds(each.path, rule.path));
  }

  /** The base among them. */
  get size(): number {
    return this.#rules.length;
  }

  get needsAuthentication(): boolean {
    return this.#rules.some(({ auth }) => auth === 'required');
  }
}

/** Both rules together: the smaller limit of each kind, and what either asks for. */
export function strictest(a: Rule, b: Rule): Rule {
  return {
    path: b.path,
    auth: a.auth === 'required' ? a.auth : b.auth,
    scopes: [...new Set([...a.scopes, ...b.scopes])],
    rateLimit: b.rateLimit,
    maxBodyBytes: Math.min(a.maxBodyBytes, b.maxBodyBytes),
    timeoutMs: Math.min(a.timeoutMs, b.timeoutMs),
    bodyTimeoutMs: Math.min(a.bodyTimeoutMs, b.bodyTimeoutMs),
    webhooks: [...new Set([...a.webhooks, ...b.webhooks])],
  };
}

function resolve(rule: RuleOptions, parent: Rule): Rule {
  const { rateLimit, webhook, scopes } = rule;
  checkRateLimit(rateLimit);
  checkWebhook(webhook);
  if (scopes !== undefined) {
    checkTexts(scopes, `scopes of ${rule.path}`);
    if (rule.auth === 'none' && scopes.length > 0) {
      throw invalid(
        `${rule.path} asks for scopes and for no authentication: leave one of them out`,
      );
    }
  }
  return {
    ...parent,
    path: rule.path,
    ...(rule.auth === undefined ? {} : { auth: rule.auth }),
    ...(scopes === undefined ? {} : { scopes, auth: rule.auth ?? 'required' }),
    ...(rule.maxBodyBytes === undefined ? {} : { maxBodyBytes: rule.maxBodyBytes }),
    ...(rule.timeoutMs === undefined ? {} : { timeoutMs: rule.timeoutMs }),
    ...(rule.bodyTimeoutMs === undefined ? {} : { bodyTimeoutMs: rule.bodyTimeoutMs }),
    ...(webhook === undefined ? {} : { webhooks: [webhook] }),
    ...(rateLimit === undefined
      ? {}
      : { rateLimit: { burst: Math.max(1, Math.ceil(rateLimit.perSecond)), ...rateLimit } }),
  };
}

/** 16 bytes are 22 characters. */
const STANDARD_SECRET = /^(whsec_)?[A-Za-z0-9+/]{22,}={0,2}$/;

export function checkRateLimit(rateLimit: RuleOptions['rateLimit']): void {
  if (rateLimit === undefined) return;
  const { perSecond, burst = 1 } = rateLimit ?? {};
  if (!(perSecond > 0 && perSecond <= 1e6) || !(Number.isInteger(burst) && burst >= 1)) {
    throw invalid(
      'rateLimit: perSecond is above 0 and at most 1000000, burst a whole number from 1',
    );
  }
}

function checkWebhook(webhook: WebhookRule | undefined): void {
  if (webhook === undefined) return;
  const { kind, secrets, toleranceMs = 1 } = webhook ?? {};
  if (!['standard', 'github', 'stripe'].includes(kind)) {
    throw invalid('webhook.kind is standard, github or stripe');
  }
  const isText = (each: unknown) => typeof each === 'string' && each !== '';
  if (!Array.isArray(secrets) || secrets.length === 0 || !secrets.every(isText)) {
    throw invalid('webhook.secrets is a list of at least one text');
  }
  // What is no base64 is a key without bytes, which every sender knows.
  if (kind === 'standard' && !secrets.every((each) => STANDARD_SECRET.test(each))) {
    throw invalid('webhook.secrets of kind standard are base64 of at least 16 bytes: whsec_...');
  }
  if (!(toleranceMs > 0)) throw invalid('webhook.toleranceMs is a number of ms above 0');
}

/** Throws INVALID_ARGUMENT for what is no list of texts. */
export function checkTexts(value: unknown, name: string): asserts value is readonly string[] {
  if (!Array.isArray(value) || !value.every((each) => typeof each === 'string')) {
    throw invalid(`${name} must be a list of texts`);
  }
}

function checkPath(rule: RuleOptions): string {
  checkOptions(TABLE, rule, 'rules.');
  const { path } = rule;
  if (typeof path !== 'string' || !/^\/[^\s?#]*$/.test(path)) {
    throw invalid(`the path of a rule begins with "/", not ${JSON.stringify(path)}`);
  }
  return path;
}

/** The path as the resolvers read it. One that they refuse stays as it is. */
function canonical(path: string): string {
  const segments = plainSegments(path);
  return segments === null ? path : `/${segments.join('/')}`;
}

function longest(rules: readonly Rule[], path: string): Rule {
  return rules.findLast((rule) => holds(rule.path, path)) as Rule;
}

function holds(prefix: string, path: string): boolean {
  if (prefix === '' || prefix === '/') return true;
  const whole = prefix.endsWith('/') ? prefix.slice(0, -1) : prefix;
  return path === whole || path.startsWith(`${whole}/`);
}
