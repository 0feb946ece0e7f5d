/** One service: its versions, nodes and endpoints; each endpoint can be called. */
import type { ServiceDetail } from '../../src/console/api-types.ts';
import { Action } from '../parts/actions/action.tsx';
import { Code } from '../parts/code.tsx';
import { CallForm } from '../parts/forms/call-form.tsx';
import { shapeText } from '../parts/forms/value-form.tsx';
import { Page, Section } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Tag } from '../parts/tag.tsx';
import { Time } from '../parts/time.tsx';
import type { PageProps } from '../routes.ts';
import { count, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, part, queryOf, withQuery } from '../state/router.ts';
import { missing } from '../state/session.ts';

type Version = ServiceDetail['versions'][number];
type Endpoint = Version['endpoints'][number];
type Node = Version['nodes'][number];

export function ServicePage({ parts: [name = ''] }: PageProps) {
  const path = `/services/${part(name)}`;
  const why = missing('services');
  const service = useResource<ServiceDetail>(why === null ? path : null);
  return (
    <Page
      title={visible(name)}
      kind="service"
      crumbs={[{ text: 'Services', to: '/services' }]}
      api={[path]}
      actions={
        <button type="button" onClick={service.reload}>
          Read again
        </button>
      }
    >
      {why !== null ? (
        <Missing what="No services" why={why} />
      ) : (
        <Show of={service}>
          {({ versions }) =>
            versions.length === 0 ? (
              <Notice kind="empty" title="No node of this service is registered">
                <p>Its nodes stopped, or their registrations ended.</p>
              </Notice>
            ) : (
              versions.map((version) => (
                <VersionParts
                  key={version.version}
                  service={name}
                  of={version}
                  reload={service.reload}
                />
              ))
            )
          }
        </Show>
      )}
    </Page>
  );
}

function VersionParts({
  service,
  of,
  reload,
}: {
  service: string;
  of: Version;
  reload: () => void;
}) {
  const chosen = queryOf('endpoint');
  const endpoint = of.endpoints.find(({ name }) => name === chosen);
  const nodes: readonly Column<Node>[] = [
    { title: 'Node', isHead: true, cell: ({ id }) => visible(id) },
    { title: 'Address', cell: ({ address }) => <Code of={address} /> },
    { title: 'Last seen', cell: ({ lastSeenAt }) => <Time at={lastSeenAt} /> },
    {
      title: 'Metadata',
      cell: ({ metadata }) => (
        <span class="muted">
          {Object.entries(metadata)
            .map(([key, value]) => `${visible(key)}=${visible(value)}`)
            .join(' ')}
        </span>
      ),
    },
    {
      title: 'Actions',
      isActions: true,
      cell: ({ id }) => (
        <div class="row-actions">
          <Action
            verb="service.dropNode"
            target={{ service, node: id }}
            about={id}
            label="Drop"
            quiet
            done={reload}
          />
        </div>
      ),
    },
  ];
  return (
    <Section
      title={of.version === '' ? 'No version' : `Version ${visible(of.version)}`}
      aside={Object.entries(of.metadata)
        .map(([key, value]) => `${visible(key)}=${visible(value)}`)
        .join(' ')}
    >
      <h3>Nodes</h3>
      <Table caption="Nodes" rows={of.nodes} keyOf={({ id }) => id} columns={nodes} />
      <h3>Endpoints</h3>
      {of.endpoints.length === 0 ? (
        <p class="muted">Its nodes registered no endpoints.</p>
      ) : (
        <Endpoints of={of.endpoints} chosen={chosen} />
      )}
      {endpoint !== undefined && (
        <div class="section panel">
          <h3>
            Call <span class="name">{visible(endpoint.name)}</span>
          </h3>
          <CallForm key={endpoint.name} service={service} endpoint={endpoint} nodes={of.nodes} />
          {endpoint.response !== null && endpoint.response.values.length > 0 && (
            <details>
              <summary>What it replies</summary>
              <pre class="mono">{visible(shapeText(endpoint.response)).replaceAll('␊', '\n')}</pre>
            </details>
          )}
        </div>
      )}
    </Section>
  );
}

function Endpoints({ of, chosen }: { of: readonly Endpoint[]; chosen: string }) {
  const columns: readonly Column<Endpoint>[] = [
    {
      title: 'Endpoint',
      isHead: true,
      cell: ({ name }) => (
        <a
          href={BASE + withQuery({ endpoint: name === chosen ? null : name })}
          {...(name === chosen ? { 'aria-current': 'true' as const } : {})}
        >
          {visible(name)}
        </a>
      ),
    },
    { title: 'Request', cell: ({ request }) => <Shape of={request} /> },
    { title: 'Reply', cell: ({ response }) => <Shape of={response} /> },
    {
      title: 'Kind',
      cell: ({ stream }) =>
        stream ? <Tag tone="busy">stream</Tag> : <span class="muted">one reply</span>,
    },
  ];
  return <Table caption="Endpoints" rows={of} keyOf={({ name }) => name} columns={columns} />;
}

function Shape({ of }: { of: Endpoint['request'] }) {
  if (of === null) return <span class="unknown">not declared</span>;
  const names = of.values.map(({ name }) => name);
  return (
    <span>
      {visible(of.type || of.name)}{' '}
      <span class="muted">
        {names.slice(0, 4).map(visible).join(', ')}
        {names.length > 4 && ` and ${count(names.length - 4)} more`}
      </span>
    </span>
  );
}
