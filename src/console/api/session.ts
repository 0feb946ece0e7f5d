/** What the console, its broker and the user's rights allow, and the login. */
import type { Verb } from './actions.ts';

/** Which of the ready-made sets of rules the user fulfils. */
export type Role = 'read' | 'operate' | 'admin';

/** What this broker, this console and this user's rights allow; a page hides or explains the rest. */
export interface Capabilities {
  readonly topics: boolean;
  /** Names are found by SCAN, on request only (`topics?scan=1`). */
  readonly scan: boolean;
  readonly rates: boolean;
  readonly browse: boolean;
  /** A position may be a time. */
  readonly browseByTime: boolean;
  readonly groups: boolean;
  /** Consumers of a group by their names. */
  readonly consumers: boolean;
  /** `entries`: each pending message; `counts`: numbers only; `none`. */
  readonly pending: 'entries' | 'counts' | 'none';
  /** Pending messages can be acted on. */
  readonly settle: boolean;
  readonly schedule: boolean;
  readonly dead: boolean;
  readonly redrive: boolean;
  /** Single dead letters can be chosen for a redrive, edited and deleted. */
  readonly redriveChosen: boolean;
  readonly publish: boolean;
  readonly deleteTopic: boolean;
  readonly services: boolean;
  readonly call: boolean;
  readonly workflows: boolean;
  readonly server: boolean;
  readonly clients: boolean;
  readonly slowlog: boolean;
  readonly audit: boolean;
  /** Facts of the log are there for journeys. */
  readonly journey: boolean;
  /** Spans that services record can be read. */
  readonly spans: boolean;
  /** Why something is false, by its name above: one sentence. */
  readonly missing: Readonly<Record<string, string>>;
}

export interface Root {
  readonly version: string;
  /** Name of the user; empty on a console without users. */
  readonly user: string;
  /** True when a login is possible, so a page offers `log out`. */
  readonly login: boolean;
  readonly roles: readonly Role[];
  /** No action is accepted by this console, whatever the user's rights. */
  readonly readOnly: boolean;
  readonly broker: { readonly kind: string; readonly address: string };
  readonly registry: string | null;
  readonly capabilities: Capabilities;
  /** Verbs of actions that this user may use. */
  readonly verbs: readonly Verb[];
  /** Paths that are masked for this user: `json.card`, `header.authorization`. */
  readonly masked: readonly string[];
  /** `--trace-url`, with `{traceId}` in it. */
  readonly traceUrl: string | null;
  /** Unix ms of the server. */
  readonly now: number;
}

export interface Login {
  readonly user: string;
  readonly password: string;
}
