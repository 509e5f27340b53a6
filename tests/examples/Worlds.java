import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Tests in a world each: java Worlds.java URL NAME TESTS. It prints how many have found their world as they left it. */
public class Worlds {
    static final HttpClient HTTP = HttpClient.newHttpClient();
    static final String PASSWORD = "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb980b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86";
    static String root;

    static String call(String method, String path, String body, String session) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(path.startsWith("http") ? path : root + path))
                .method(method, HttpRequest.BodyPublishers.ofString(body)).header("Content-Type", "application/json");
        if (session != null) {
            request.header("Authorization", "OAuth " + session);
        }
        return HTTP.send(request.build(), BodyHandlers.ofString()).body();
    }

    static String find(String pattern, String text) {
        Matcher matcher = Pattern.compile(pattern).matcher(text);
        return matcher.find() ? matcher.group(1) : "";
    }

    public static void main(String[] arguments) throws Exception {
        String name = arguments[1];
        root = arguments[0].replace("/zstack/v1", "/w/" + name);
        int passed = 0;
        for (int n = 0; n < Integer.parseInt(arguments[2]); n++) {
            call("POST", "/zmock/reset", "{\"cloud\": \"empty\"}", null);
            String login = "{\"logInByAccount\": {\"accountName\": \"admin\", \"password\": \"" + PASSWORD + "\"}}";
            String session = find("\"uuid\":\"(\\w+)\"", call("PUT", "/zstack/v1/accounts/login", login, null));
            String submitted = call("POST", "/zstack/v1/zones", "{\"params\": {\"name\": \"" + name + "-" + n + "\"}}", session);
            call("POST", "/zmock/clock", "{\"advance\": 1}", null);
            String zone = "\"name\":\"" + name + "-" + n + "\"";
            boolean made = call("GET", find("\"location\":\"([^\"]+)\"", submitted), "", session).contains(zone);
            String zones = call("GET", "/zstack/v1/zones", "", session);
            passed += made && zones.contains(zone) && zones.split("\"name\"").length == 2 ? 1 : 0;
        }
        System.out.println(passed);
    }
}
