// Builds the page with common build tools. In: the installed projects. Out: folders to be served, with relative
// addresses, so that they work under any path.

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** Builds the page with Vite into `web/dist`. */
export async function buildVite(project) {
  const vite = await load(project, 'vite')
  await vite.build({ root: project.consumer('web'), base: './', logLevel: 'error', configFile: false, build: { outDir: 'dist', sourcemap: true } })
}

/** Builds a module for server-side rendering with Vite into `ssr/dist`. */
export async function buildVitePages(project) {
  const vite = await load(project, 'vite')
  await vite.build({
    root: project.consumer('ssr'), logLevel: 'error', configFile: false, ssr: { noExternal: ['lianmai'] },
    build: { ssr: 'page.mjs', outDir: 'dist' },
  })
}

/** Serves the page with Vite's development server. */
export async function serveVite(project) {
  const vite = await load(project, 'vite')
  let policy = ''
  const plugin = {
    name: 'policy',
    configureServer(server) {
      server.middlewares.use((_request, response, next) => {
        if (policy) response.setHeader('content-security-policy', policy)
        next()
      })
    },
  }
  const server = await vite.createServer({
    root: project.consumer('web'), logLevel: 'error', configFile: false, plugins: [plugin], server: { host: '127.0.0.1', port: 0 },
  })
  await server.listen()
  return {
    origin: `http://127.0.0.1:${server.httpServer.address().port}`,
    policy: (text) => (policy = text),
    stop: () => server.close(),
  }
}

/** Builds the page with webpack, with `import` and with `require`, into `web/packed`. */
export async function buildWebpack(project) {
  const webpack = project.require('webpack')
  const compiler = webpack({
    mode: 'production',
    context: project.consumer('web'),
    entry: { main: './main.js', required: './required.cjs' },
    output: { path: join(project.consumer('web'), 'packed'), filename: '[name].js', publicPath: 'auto' },
    devtool: 'source-map',
    performance: false,
  })
  const stats = await new Promise((done, failed) => compiler.run((error, stats) => (error ? failed(error) : done(stats))))
  await new Promise((done) => compiler.close(done))
  return stats.toJson({ all: false, errors: true, warnings: true, assets: true })
}

/** Loads a build tool that is an ES module. */
function load(project, name) {
  return import(pathToFileURL(project.require.resolve(name)))
}
