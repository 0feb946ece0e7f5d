/** What the gateway's pages below `/_/` are made with. */
import type { Rule } from '../access/rules.ts';
import type { Exchange } from '../exchange.ts';
import type { CallClient } from '../handlers/call-client.ts';
import type { Observer } from '../observer.ts';
import type { GatewayOptions } from '../options.ts';
import type { Directory } from '../routing/directory.ts';
import type { Target } from '../routing/names.ts';

export interface OwnPagesSetup {
  readonly observer: Observer;
  readonly directory: Directory;
  readonly options: GatewayOptions;
  readonly client: CallClient;
  readonly isStopping: () => boolean;
  /** Throws where the client may not call this endpoint, which has this path, or not now. */
  readonly permit: (exchange: Exchange, path: string, target: Target) => Promise<Rule>;
  readonly hasAuthentication: boolean;
}
