/** Services that the registry knows. */
import type { ServiceRow } from '../../src/console/api-types.ts';
import { Page } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { count, many, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, part } from '../state/router.ts';
import { missing, root } from '../state/session.ts';

const columns: readonly Column<ServiceRow>[] = [
  {
    title: 'Service',
    isHead: true,
    cell: ({ name }) => <a href={`${BASE}/services/${part(name)}`}>{visible(name)}</a>,
  },
  { title: 'Versions', cell: ({ versions }) => versions.map(visible).join(', ') },
  { title: 'Nodes', isNumber: true, cell: ({ nodes }) => count(nodes) },
  { title: 'Endpoints', isNumber: true, cell: ({ endpoints }) => count(endpoints) },
];

export function ServicesPage() {
  const why = missing('services');
  const services = useResource<readonly ServiceRow[]>(
    why === null ? '/services' : null,
    'services',
  );
  return (
    <Page title="Services" api={['/services']}>
      {why !== null ? (
        <Missing what="No services" why={why} />
      ) : (
        <Show of={services}>
          {(rows) =>
            rows.length === 0 ? (
              <Notice kind="empty" title="No service is registered">
                <p>
                  A service shows up when it runs with this registry
                  {root.value?.registry ? ` (${root.value.registry})` : ''}:
                </p>
                <pre class="mono">{'const service = createService({ name: "greeter" });'}</pre>
              </Notice>
            ) : (
              <div class="section">
                <p class="muted">
                  {many(rows.length, 'service')}
                  {root.value?.registry ? ` in ${root.value.registry}` : ''}
                </p>
                <Table
                  caption="Services"
                  rows={rows}
                  keyOf={({ name }) => name}
                  columns={columns}
                />
              </div>
            )
          }
        </Show>
      )}
    </Page>
  );
}
