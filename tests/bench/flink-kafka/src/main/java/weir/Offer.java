package weir;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;

/** Four of the seven fields of a bid. Its instant stays text: nothing is computed with it. */
@JsonIgnoreProperties(ignoreUnknown = true)
public class Offer {
    public long auction;
    public long price;
    public String channel;
    public String date_time;
}
