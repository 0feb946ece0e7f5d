/**
 * The identity of the client: by an API key, by a JSON Web Token, or unknown.
 *
 * Invariants: keys are kept and compared as digests, in constant time; a token counts only with its
 * signature, its times, and where they are set its issuer and audience; an error
 * about a token never shows its content. A wrong credential is refused even where the rule asks for none,
 * so that a mistake is seen. A cookie, which browsers send by themselves, counts only for pages of the same host or
 * of an allowed origin. Cost: one digest, or one signature.
 */
import { createHash, createSecretKey, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { invalid } from '../../client/option-table.ts';
import { HttpError } from '../http-error.ts';
import { isOfPage } from './cors.ts';
import { checkTexts, type Rule } from './rules.ts';

export interface Identity {
  /** Empty where it is not known. */
  readonly name: string;
  readonly scopes: readonly string[];
}

export interface ApiKey {
  readonly name: string;
  /** The key, or its SHA-256 in hexadecimal as `sha256:...`. */
  readonly key: string;
  readonly scopes?: readonly string[];
}

export interface JwtOptions {
  /** A shared secret (HS256, HS384, HS512), or */
  readonly secret?: string;
  /** where the public keys are: the URL of a JWKS, or */
  readonly jwksUrl?: string;
  /** a public key in PEM, with its algorithm. */
  readonly publicKey?: string;
  readonly algorithms?: readonly string[];
  readonly issuer?: string;
  readonly audience?: string;
}

export interface AuthenticationOptions {
  readonly keys?: readonly ApiKey[];
  readonly jwt?: JwtOptions;
}

interface KnownKey {
  readonly identity: Identity;
  readonly digest: Buffer;
}

type Verify = (token: string) => Promise<Identity>;

const ANONYMOUS: Identity = { name: '', scopes: [] };
const NO_KEYS = /^ERR_(JWKS_TIMEOUT|JWKS_INVALID|JOSE_GENERIC)$/;
const HMAC = ['HS256', 'HS384', 'HS512'];

export class Authentication {
  readonly #keys: readonly KnownKey[];
  readonly #verify: Verify | null;
  readonly #origins: readonly string[];

  private constructor(
    keys: readonly KnownKey[],
    verify: Verify | null,
    origins: readonly string[],
  ) {
    this.#keys = keys;
    this.#verify = verify;
    this.#origins = origins;
  }

  /** `origins` are those whose pages may call. Throws INVALID_ARGUMENT for options that cannot be used. */
  static async open(
    { keys = [], jwt }: AuthenticationOptions,
    origins: readonly string[] = [],
  ): Promise<Authentication> {
    if (!Array.isArray(keys)) throw invalid('auth.keys is a list of keys');
    const made = (keys as readonly ApiKey[]).map(({ name, key, scopes = [] }) => {
      checkTexts(scopes, `scopes of the key ${JSON.stringify(name)}`);
      if (typeof name !== 'string' || name === '' || typeof key !== 'string' || key === '') {
        throw invalid('an API key has a name and a key');
      }
      const [, hex] = /^sha256:([0-9a-f]{64})$/i.exec(key) ?? [];
      const digest = hex === undefined ? digestOf(key) : Buffer.from(hex, 'hex');
      return { identity: { name, scopes }, digest };
    });
    return new Authentication(made, jwt === undefined ? null : await jwtVerifier(jwt), origins);
  }

  get isSetUp(): boolean {
    return this.#keys.length > 0 || this.#verify !== null;
  }

  /**
   * Throws 401 where the rule asks for a known client and this is none, 403 for a missing scope; a
   * promise only where a token must be verified.
   */
  check(request: IncomingMessage, rule: Rule): Identity | Promise<Identity> {
    if (!this.isSetUp) return this.#mayPass(ANONYMOUS, rule);
    const identity = this.#identify(request);
    if (!(identity instanceof Promise)) return this.#mayPass(identity, rule);
    return identity.then((known) => this.#mayPass(known, rule));
  }

  #mayPass(identity: Identity, rule: Rule): Identity {
    if (rule.auth === 'none') return identity;
    if (identity.name === '') throw unauthorized('this path needs an API key or a token');
    const missing = rule.scopes.filter((scope) => !identity.scopes.includes(scope));
    if (missing.length > 0) throw new HttpError(403, `the scope ${missing[0]} is missing`);
    return identity;
  }

  #identify(request: IncomingMessage): Identity | Promise<Identity> {
    const { authorization, cookie, 'x-api-key': header } = request.headers;
    const key = Array.isArray(header) ? header[0] : header;
    if (key !== undefined) return this.#byKey(key) ?? wrong('the API key is not known');
    const bearer = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
    const token = bearer ?? (this.#mayUseCookie(request) ? cookieToken(cookie) : undefined);
    if (token === undefined) {
      return authorization === undefined
        ? ANONYMOUS
        : wrong('Authorization must be a Bearer token');
    }
    const known = this.#byKey(token);
    if (known !== null) return known;
    if (this.#verify === null) return wrong('the token is not known');
    return this.#verify(token);
  }

  #mayUseCookie({ headers }: IncomingMessage): boolean {
    const { origin, host } = headers;
    // An image or a link of another site sends a GET without Origin; browsers say so in this header.
    if (origin === undefined) return !/^(cross|same)-site$/.test(String(headers['sec-fetch-site']));
    return isOfPage(origin, host, this.#origins);
  }

  #byKey(key: string): Identity | null {
    const digest = digestOf(key);
    let found: Identity | null = null;
    for (const each of this.#keys) {
      if (timingSafeEqual(each.digest, digest)) found = each.identity;
    }
    return found;
  }
}

function cookieToken(cookie: string | undefined): string | undefined {
  return /(?:^|; *)micro-token=([^;\s]+)/.exec(cookie ?? '')?.[1];
}

async function jwtVerifier(options: JwtOptions): Promise<Verify> {
  const { secret, jwksUrl, publicKey, issuer, audience } = options;
  if ([secret, jwksUrl, publicKey].filter((each) => each !== undefined).length !== 1) {
    throw invalid('jwt: give one of secret, jwksUrl and publicKey');
  }
  const jose = await import('jose');
  const algorithms = [
    ...(options.algorithms ?? (secret === undefined ? ['RS256', 'ES256', 'EdDSA'] : HMAC)),
  ];
  // A public key taken for a shared secret would let every client sign.
  if (secret === undefined && algorithms.some((name) => HMAC.includes(name))) {
    throw invalid('jwt: HS256, HS384 and HS512 need a secret');
  }
  if (secret !== undefined && Buffer.byteLength(secret) < 32) {
    throw invalid('jwt.secret must have at least 32 bytes');
  }
  const checks = {
    algorithms,
    requiredClaims: ['exp'],
    ...(issuer === undefined ? {} : { issuer }),
    ...(audience === undefined ? {} : { audience }),
  };
  if (jwksUrl !== undefined && !/^https?:/i.test(URL.canParse(jwksUrl) ? jwksUrl : '')) {
    throw invalid('jwt.jwksUrl is the http or https URL of a JWKS');
  }
  const remote = jwksUrl === undefined ? null : jose.createRemoteJWKSet(new URL(jwksUrl));
  const own =
    secret !== undefined
      ? createSecretKey(Buffer.from(secret))
      : publicKey !== undefined
        ? await jose.importSPKI(publicKey, algorithms[0] as string).catch(() => {
            throw invalid(`jwt.publicKey is no public key in PEM for ${algorithms[0]}`);
          })
        : null;
  return async (token) => {
    try {
      const { payload } =
        remote === null
          ? await jose.jwtVerify(token, own as never, checks)
          : await jose.jwtVerify(token, remote, checks);
      return identityOf(payload);
    } catch (error) {
      const { code = 'invalid', message } = error as { code?: string; message: string };
      // Of a token nothing is known while the keys cannot be had: it must not be thrown away.
      if (NO_KEYS.test(code) || message === 'fetch failed') {
        throw new HttpError(503, 'the keys of tokens cannot be read', { 'retry-after': '2' });
      }
      return wrong(code === 'ERR_JWT_EXPIRED' ? 'the token has expired' : 'the token is not valid');
    }
  };
}

function identityOf({ sub, scope, scopes }: Record<string, unknown>): Identity {
  const list = typeof scope === 'string' ? scope.split(' ') : Array.isArray(scopes) ? scopes : [];
  return {
    name: typeof sub === 'string' && sub !== '' ? sub : 'token',
    scopes: list.filter((each) => typeof each === 'string' && each !== ''),
  };
}

function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function wrong(text: string): never {
  throw unauthorized(text);
}

function unauthorized(text: string): HttpError {
  return new HttpError(401, text, { 'www-authenticate': 'Bearer realm="micro"' });
}
