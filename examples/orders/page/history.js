// Follows an order: when something has happened, asks for the page again and shows what is new in it. The server alone
// makes HTML, so there is one place that escapes.

const main = document.querySelector("main")
const connection = document.querySelector("#connection")

const refresh = async () => {
  const response = await fetch(location.href, { cache: "no-store" })
  if (!response.ok) throw new Error(`status ${response.status}`)
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html")
  document.title = fresh.title
  for (const old of main.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id)
    if (next && next.innerHTML !== old.innerHTML) old.replaceWith(next)
  }
}

// Several events may come while a page is on its way: one more look is enough for all of them.
let looking = false
let again = false
const look = async () => {
  if (looking) {
    again = true
    return
  }
  looking = true
  try {
    do {
      again = false
      await refresh()
    } while (again)
    // Read out by screen readers.
    connection.textContent = `Live. Last: ${document.querySelector("#history strong").textContent}`
  } catch {
    connection.textContent = "What is shown may be old. Trying again …"
    setTimeout(look, 2000)
  } finally {
    looking = false
  }
}

// When the connection is lost, the browser connects again and says the last position it has seen.
const changes = new EventSource(main.dataset.changes)
changes.onopen = () => {
  connection.textContent = "Live"
}
changes.onmessage = look
changes.onerror = () => {
  connection.textContent = changes.readyState === EventSource.CLOSED ? "Not live: load the page again" : "Connecting …"
}
