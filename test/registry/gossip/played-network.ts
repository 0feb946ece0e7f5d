/** A network on which a test plays the other members, and sees what is sent to them. */
import type { Endpoint } from '../../../src/registry/gossip/wire/endpoint.ts';
import type {
  GossipHandlers,
  GossipNetwork,
  GossipStream,
} from '../../../src/registry/gossip/wire/network.ts';

export class PlayedNetwork implements GossipNetwork {
  handlers: GossipHandlers | null = null;
  readonly sent: { readonly bytes: Uint8Array; readonly to: Endpoint }[] = [];

  async listen(at: Endpoint, _most: number, handlers: GossipHandlers): Promise<Endpoint> {
    this.handlers = handlers;
    return { ...at, port: 7946 };
  }

  async send(bytes: Uint8Array, to: Endpoint): Promise<void> {
    this.sent.push({ bytes, to });
  }

  async connect(): Promise<GossipStream> {
    throw new Error('refused');
  }

  async resolve(host: string): Promise<string[]> {
    return [host];
  }

  async close(): Promise<void> {}
}
